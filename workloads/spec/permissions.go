package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/twinkeel/twinkeel/release"
)

// lowPort is the first port that everybody may publish.
const lowPort = 1024

// allowance is what permissions add to the default.
type allowance struct {
	caps    []string
	devices []specs.LinuxDevice
	rules   []specs.LinuxDeviceCgroup
	mounts  []specs.Mount
	masked  []string
}

// grantable are the capabilities that a permission can name. In the application's user
// namespace they reach nothing of the host's. The others are ways out, or lead nowhere.
var grantable = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_IPC_LOCK", "CAP_KILL",
	"CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// masked are files of /proc and /sys that tell of the host or change it.
var masked = []string{
	"/proc/acpi", "/proc/asound", "/proc/buddyinfo", "/proc/bus", "/proc/config.gz", "/proc/fb", "/proc/interrupts", "/proc/iomem", "/proc/ioports",
	"/proc/kallsyms", "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount",
	"/proc/kpageflags", "/proc/latency_stats", "/proc/modules", "/proc/mtrr", "/proc/pagetypeinfo", "/proc/sched_debug", "/proc/schedstat",
	"/proc/scsi", "/proc/slabinfo", "/proc/softirqs", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo",
	"/proc/zoneinfo", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/kernel",
}

// harmless are those of masked that permission proc-full uncovers, for programs that
// watch the host: numbers, without addresses and without a way to change anything.
var harmless = []string{
	"/proc/buddyinfo", "/proc/interrupts", "/proc/pagetypeinfo", "/proc/schedstat", "/proc/softirqs", "/proc/zoneinfo",
}

var readonlyPaths = []string{"/proc/fs", "/proc/irq", "/proc/sys"}

// forbiddenPaths are never given to an application, nor is what they lie in.
var forbiddenPaths = []string{"/boot", "/dev", "/etc/twinkeel", "/proc", "/run/twinkeel", "/sys", "/var/lib/twinkeel"}

// Permits reports what of a manifest's permissions is not granted, or can be given to
// nobody, on a host with these devices, by their paths.
func Permits(m *release.AppManifest, grants []release.AppPermission, devices map[string]Device) error {
	_, err := permit(Input{Manifest: m, Grants: grants, Devices: devices})
	return err
}

// permit checks what the manifest asks for against what is granted, and adds it up.
func permit(in Input) (allowance, error) {
	m, a := in.Manifest, allowance{caps: []string{}, masked: slices.Clone(masked)}
	has := map[string]bool{}
	for _, p := range m.Permissions {
		if !slices.Contains(in.Grants, p) {
			return a, fmt.Errorf("permission %s %s: not granted", p.Name, p.Value)
		}
		if err := a.add(in, p); err != nil {
			return a, fmt.Errorf("permission %s %s: %w", p.Name, p.Value, err)
		}
		has[p.Name] = true
	}
	for _, n := range []struct {
		needed bool
		name   string
		why    string
	}{
		{m.Network.Mode == "host", "host-network", "its network mode is host"},
		{(m.Run.UID == 0 || m.Run.GID == 0), "root", "its user or group is 0"},
		{slices.ContainsFunc(m.Network.Publish, func(p release.AppPort) bool { return p.Host < lowPort }), "publish-low", "it publishes a port below 1024"},
	} {
		if n.needed && !has[n.name] {
			return a, fmt.Errorf("permission %s: the manifest does not ask for it, and %s", n.name, n.why)
		}
	}
	return a, nil
}

// add is one permission's meaning.
func (a *allowance) add(in Input, p release.AppPermission) error {
	switch p.Name {
	case release.Outbound:
		// The packet filter's work.
		_, err := release.ParseDestination(p.Value)
		return err
	case "host-network", "root", "publish-low":
		// Somebody else's work, or checked above: nothing of the configuration changes.
		if p.Value != "" {
			return fmt.Errorf("got a value, want none")
		}
		return nil
	case "proc-full":
		a.masked = slices.DeleteFunc(a.masked, func(f string) bool { return slices.Contains(harmless, f) })
		return nil
	case "capability":
		name := "CAP_" + strings.TrimPrefix(p.Value, "CAP_")
		if !slices.Contains(grantable, name) {
			return fmt.Errorf("want one of %s", strings.Join(grantable, " "))
		}
		a.caps = append(a.caps, name)
		slices.Sort(a.caps)
		return nil
	case "host-path":
		return a.addPath(p.Value)
	case "device":
		return a.addDevice(in, p.Value)
	}
	return fmt.Errorf("this host does not know how to give it")
}

// addPath shows a directory of the host, under its own name: "/srv/media" to read,
// "/srv/media:rw" to write. The ids of the host's users stay foreign to the application.
func (a *allowance) addPath(value string) error {
	dir, mode, _ := strings.Cut(value, ":")
	if mode == "" {
		mode = "ro"
	}
	if mode != "ro" && mode != "rw" || !strings.HasPrefix(dir, "/") || path.Clean(dir) != dir || dir == "/" {
		return fmt.Errorf("want an absolute path, and :rw to write")
	}
	for _, f := range forbiddenPaths {
		if dir == f || strings.HasPrefix(dir, f+"/") || strings.HasPrefix(f, dir+"/") {
			return fmt.Errorf("%s is never given away", f)
		}
	}
	a.mounts = append(a.mounts, bind(dir, dir, mode))
	return nil
}

// addDevice gives a device: "/dev/ttyUSB0" to read, "/dev/ttyUSB0:rw" to write.
func (a *allowance) addDevice(in Input, value string) error {
	name, mode, _ := strings.Cut(value, ":")
	if mode == "" {
		mode = "r"
	}
	if mode != "r" && mode != "rw" {
		return fmt.Errorf("want a path below /dev, and :rw to write")
	}
	if !strings.HasPrefix(name, "/dev/") || path.Clean(name) != name {
		return fmt.Errorf("want a path below /dev")
	}
	d, ok := in.Devices[name]
	if !ok {
		return fmt.Errorf("this host has no such device")
	}
	if d.Type != "c" || d.Major == 1 || d.Major == 10 {
		return fmt.Errorf("disks, memory and the kernel's own devices are never given away")
	}
	a.devices = append(a.devices, specs.LinuxDevice{Path: name, Type: d.Type, Major: d.Major, Minor: d.Minor})
	a.rules = append(a.rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: mode})
	return nil
}
