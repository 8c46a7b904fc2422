package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/twinkeel/twinkeel/release"
)

// IDs is how many user and group ids an application has.
const IDs = 65536

// Input is all that the configuration depends on. Paths are the host's.
type Input struct {
	Manifest *release.AppManifest
	Grants   []release.AppPermission
	// FirstID is the host's id of the application's root. It is a multiple of IDs, not 0,
	// and no other application has it.
	FirstID uint32
	Root    string            // the image, mounted for FirstID
	Volumes map[string]string // by the volume's name: its directory, mounted for FirstID
	// NetNS is a network namespace to join; empty: one without any way out.
	NetNS string
	// Files are covered in the image by files of the host, read-only, by their path in
	// the image: such as /etc/resolv.conf.
	Files   map[string]string
	Devices map[string]Device // granted devices, by path
	Cgroup  string            // absolute path below the root of the hierarchies
	Unified bool              // cgroup version 2 alone
	Swap    bool              // the kernel accounts for swap
	// Score says that the runtime has CAP_SYS_RESOURCE: a score for lack of memory that it
	// sets cannot be lowered by the application. Without it none is set.
	Score bool
}

// Device is a device node of the host.
type Device struct {
	Type         string // c or b
	Major, Minor int64
}

// Config returns the config.json of a bundle, or why there is none.
func Config(in Input) ([]byte, error) {
	if in.FirstID < IDs || in.FirstID%IDs != 0 || in.FirstID > 1<<32-2*IDs {
		return nil, fmt.Errorf("config of app %s: first id %d: want a multiple of %d, neither 0 nor the last", in.Manifest.Name, in.FirstID, IDs)
	}
	if !strings.HasPrefix(in.Cgroup, "/") || in.Root == "" {
		return nil, fmt.Errorf("config of app %s: got root %q and cgroup %q, want both, the cgroup absolute", in.Manifest.Name, in.Root, in.Cgroup)
	}
	if level := in.Manifest.Isolation.Level; level != "container" && level != "sandbox" {
		return nil, fmt.Errorf("config of app %s: isolation: got level %s, want container or sandbox: it is never lowered", in.Manifest.Name, level)
	}
	if err := Suits(in.Manifest); err != nil {
		return nil, fmt.Errorf("config of app %s: isolation: %w", in.Manifest.Name, err)
	}
	allowed, err := permit(in)
	if err != nil {
		return nil, fmt.Errorf("config of app %s: %w", in.Manifest.Name, err)
	}
	filter, err := filter(in.Manifest.Isolation.Level, allowed.caps)
	if err != nil {
		return nil, fmt.Errorf("config of app %s: filter of system calls: %w", in.Manifest.Name, err)
	}
	mounts, err := mounts(in, allowed)
	if err != nil {
		return nil, fmt.Errorf("config of app %s: %w", in.Manifest.Name, err)
	}
	// A sandbox cannot mount the root read-only once more, from its own user namespace; it
	// is so already.
	sandbox := in.Manifest.Isolation.Level == "sandbox"
	ids := []specs.LinuxIDMapping{{HostID: in.FirstID, Size: IDs}}
	config := bundle{
		Version:  "1.0.2", // what it needs, and what the oldest runtimes in use read
		Process:  process(in, allowed),
		Root:     &specs.Root{Path: in.Root, Readonly: !sandbox},
		Hostname: in.Manifest.Name,
		Mounts:   mounts,
		Linux: bundleLinux{
			UIDMappings: ids, GIDMappings: ids,
			Namespaces: namespaces(in), Sysctl: sysctls(in),
			CgroupsPath: in.Cgroup, Resources: resources(in, allowed),
			Devices:     allowed.devices,
			Seccomp:     filter,
			MaskedPaths: allowed.masked, ReadonlyPaths: slices.Clone(readonlyPaths),
			RootfsPropagation: "private",
		},
	}
	b, err := json.Marshal(&config)
	if err != nil {
		return nil, fmt.Errorf("config of app %s: %w", in.Manifest.Name, err)
	}
	return append(b, '\n'), nil
}

// bundle is the part of specs.Spec that is used. Encoding looks at every type that a value
// could hold, once in a process, and a shim encodes only once: of the whole one, with other
// systems and what containers of level container never have, that takes longer than the
// rest of its work on the configuration.
type bundle struct {
	Version  string         `json:"ociVersion"`
	Process  *specs.Process `json:"process"`
	Root     *specs.Root    `json:"root"`
	Hostname string         `json:"hostname"`
	Mounts   []specs.Mount  `json:"mounts"`
	Linux    bundleLinux    `json:"linux"`
}

type bundleLinux struct {
	UIDMappings       []specs.LinuxIDMapping `json:"uidMappings"`
	GIDMappings       []specs.LinuxIDMapping `json:"gidMappings"`
	Sysctl            map[string]string      `json:"sysctl,omitempty"`
	Resources         bundleResources        `json:"resources"`
	CgroupsPath       string                 `json:"cgroupsPath"`
	Namespaces        []specs.LinuxNamespace `json:"namespaces"`
	Devices           []specs.LinuxDevice    `json:"devices,omitempty"`
	Seccomp           *specs.LinuxSeccomp    `json:"seccomp"`
	RootfsPropagation string                 `json:"rootfsPropagation"`
	MaskedPaths       []string               `json:"maskedPaths"`
	ReadonlyPaths     []string               `json:"readonlyPaths"`
}

type bundleResources struct {
	Devices []specs.LinuxDeviceCgroup `json:"devices"`
	Memory  *specs.LinuxMemory        `json:"memory"`
	CPU     *specs.LinuxCPU           `json:"cpu"`
	Pids    *specs.LinuxPids          `json:"pids"`
	Unified map[string]string         `json:"unified,omitempty"`
}

// defaultPath is where commands lie if the manifest does not say.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func process(in Input, a allowance) *specs.Process {
	m := in.Manifest
	env := slices.Clone(m.Run.Env)
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		env = append(env, defaultPath)
	}
	if n := len(m.Network.Sockets); n > 0 {
		var names []string
		for _, s := range m.Network.Sockets {
			names = append(names, s.Name)
		}
		// The application is the first process of its own namespace.
		env = append(env, "LISTEN_FDS="+strconv.Itoa(n), "LISTEN_PID=1", "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	largest := m.Limits.Tmp
	for _, v := range m.Data {
		largest = max(largest, v.Quota)
	}
	var score *int
	if in.Score {
		n := 500
		if m.Class == "system" {
			n = 100
		}
		score = &n
	}
	mask := uint32(0o022)
	return &specs.Process{
		Args: m.Run.Argv, Env: env, Cwd: m.Run.Cwd,
		User:            specs.User{UID: m.Run.UID, GID: m.Run.GID, Umask: &mask},
		NoNewPrivileges: true,
		OOMScoreAdj:     score,
		Capabilities: &specs.LinuxCapabilities{
			Bounding: a.caps, Effective: a.caps, Permitted: a.caps, Inheritable: a.caps, Ambient: a.caps,
		},
		Rlimits: []specs.POSIXRlimit{
			limit("RLIMIT_CORE", 0), limit("RLIMIT_FSIZE", uint64(largest)),
			limit("RLIMIT_MEMLOCK", 64<<10), limit("RLIMIT_NOFILE", uint64(m.Limits.Files)),
		},
	}
}

func limit(name string, n uint64) specs.POSIXRlimit {
	return specs.POSIXRlimit{Type: name, Hard: n, Soft: n}
}

func namespaces(in Input) []specs.LinuxNamespace {
	list := []specs.LinuxNamespace{
		{Type: specs.UserNamespace}, {Type: specs.PIDNamespace}, {Type: specs.MountNamespace},
		{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.CgroupNamespace},
	}
	if in.Manifest.Network.Mode != "host" {
		list = append(list, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: in.NetNS})
	}
	return list
}

// sysctls opens the low ports of a network namespace that holds nobody else. One that is
// joined was made outside the user namespace, and whoever made it has set it.
func sysctls(in Input) map[string]string {
	if in.Manifest.Network.Mode == "host" || in.NetNS != "" {
		return nil
	}
	return map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
}

func resources(in Input, a allowance) bundleResources {
	l := in.Manifest.Limits
	period := uint64(100 * time.Millisecond / time.Microsecond)
	quota := int64(l.CPU) * int64(period) / 1000
	pids := int64(l.Pids)
	r := bundleResources{
		Devices: append([]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, a.rules...),
		Memory:  &specs.LinuxMemory{Limit: &l.Memory},
		CPU:     &specs.LinuxCPU{Quota: &quota, Period: &period},
		Pids:    &specs.LinuxPids{Limit: &pids},
	}
	if in.Swap {
		r.Memory.Swap = &l.Memory // memory and swap together
	}
	if in.Unified {
		// An application that lost one process to a lack of memory is not what it was.
		r.Unified = map[string]string{"memory.oom.group": "1"}
	}
	return r
}

// mounts are what covers the image. The order is that in which they are made.
func mounts(in Input, a allowance) ([]specs.Mount, error) {
	m := in.Manifest
	owner := []string{fmt.Sprintf("uid=%d", m.Run.UID), fmt.Sprintf("gid=%d", m.Run.GID)}
	half := "size=" + strconv.FormatInt(m.Limits.Tmp/2, 10)
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=64k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(m.Limits.Memory/2, 10)}},
		// Its own, for runc gives a tmpfs the mode of the image's directory, whatever is said here.
		{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: append([]string{"nosuid", "noexec", "nodev", "mode=1777", half}, owner...)},
		{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: append([]string{"nosuid", "noexec", "nodev", "mode=755", half}, owner...)},
	}
	for _, path := range slices.Sorted(maps.Keys(in.Files)) {
		list = append(list, bind(in.Files[path], path, "ro"))
	}
	for _, v := range m.Data {
		from, ok := in.Volumes[v.Name]
		if !ok || from == "" {
			return nil, fmt.Errorf("volume %s: got no directory", v.Name)
		}
		for _, taken := range list[:5] { // what the kernel's own file systems cover
			if v.Path == taken.Destination || strings.HasPrefix(v.Path, taken.Destination+"/") || v.Path == "/sys" || strings.HasPrefix(v.Path, "/sys/") {
				return nil, fmt.Errorf("volume %s: path %s lies where the kernel's own files are", v.Name, v.Path)
			}
		}
		list = append(list, bind(from, v.Path, "rw"))
	}
	return append(list, a.mounts...), nil
}

func bind(from, to, mode string) specs.Mount {
	return specs.Mount{Destination: to, Type: "bind", Source: from, Options: []string{"rbind", mode, "nosuid", "noexec", "nodev", "rprivate"}}
}
