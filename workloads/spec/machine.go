package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/twinkeel/twinkeel/release"
)

// MachineID is the user and group, of the application's range, that an emulator runs as.
const MachineID = 1000

// machineThreads are processes and threads that an emulator may have: of its own, one for
// each processor, and those that wait for its disks.
const machineThreads = 256

// Emulator is what runs in the place of an application of level vm.
type Emulator struct {
	Argv []string
	// Shown are files and directories of the host, by where the emulator sees them, below
	// Input.Root, where there is a place for each; Disks are those that it writes.
	Shown, Disks map[string]string
	Memory       int64 // bytes beside those of the guest
	KVM          bool  // it gets /dev/kvm, which is among Disks
}

// Machine returns the config.json by which the emulator of an application of level vm is
// started: confined as any application, with the manifest's limits, and with nothing of
// the manifest's but those. Permissions that the manifest asks for have to be granted
// here, too.
func Machine(in Input, e Emulator) ([]byte, error) {
	m := *in.Manifest
	if m.Isolation.Level != "vm" {
		return nil, fmt.Errorf("machine of app %s: isolation: got level %s, want vm", m.Name, m.Isolation.Level)
	}
	if err := Suits(&m); err != nil {
		return nil, fmt.Errorf("machine of app %s: isolation: %w", m.Name, err)
	}
	if _, err := permit(in); err != nil {
		return nil, fmt.Errorf("machine of app %s: %w", m.Name, err)
	}
	// What remains is an application like any other: the emulator.
	m.Isolation = release.AppIsolation{Level: "container"}
	m.Permissions, m.Run = nil, release.AppRun{Argv: e.Argv, Cwd: "/", UID: MachineID, GID: MachineID}
	m.Network.Publish, m.Network.Sockets = nil, nil
	m.Limits.Memory += e.Memory
	m.Limits.Pids, m.Limits.Files, m.Limits.Tmp = machineThreads, 1024, 1<<20
	largest := m.Limits.Tmp
	for _, v := range m.Data {
		largest = max(largest, v.Quota)
	}
	m.Data = nil
	in.Manifest, in.Grants, in.Volumes, in.Files, in.Devices = &m, nil, nil, nil, nil
	b, err := Config(in)
	if err != nil {
		return nil, err
	}
	var config specs.Spec
	if err := json.Unmarshal(b, &config); err != nil {
		return nil, fmt.Errorf("machine of app %s: %w", m.Name, err)
	}
	for i := range config.Process.Rlimits {
		if l := &config.Process.Rlimits[i]; l.Type == "RLIMIT_FSIZE" {
			*l = limit(l.Type, uint64(largest)+smallestDisk)
		}
	}
	// It is shown the host's own files, and has no need to know when others open them.
	for i := range config.Linux.Seccomp.Syscalls {
		c := &config.Linux.Seccomp.Syscalls[i]
		c.Names = slices.DeleteFunc(c.Names, func(n string) bool { return strings.HasPrefix(n, "inotify_") })
	}
	for _, at := range slices.Sorted(maps.Keys(e.Shown)) {
		b := bind(e.Shown[at], at, "ro")
		b.Options = slices.DeleteFunc(b.Options, func(o string) bool { return o == "noexec" })
		config.Mounts = append(config.Mounts, b)
	}
	for _, at := range slices.Sorted(maps.Keys(e.Disks)) {
		b := bind(e.Disks[at], at, "rw")
		if strings.HasPrefix(at, "/dev/") {
			b.Options = slices.DeleteFunc(b.Options, func(o string) bool { return o == "nodev" })
		}
		config.Mounts = append(config.Mounts, b)
	}
	if e.KVM {
		major, minor := int64(10), int64(232) // linux/Documentation/admin-guide/devices.txt
		config.Linux.Resources.Devices = append(config.Linux.Resources.Devices,
			specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "rw"})
	}
	if b, err = json.MarshalIndent(&config, "", "\t"); err != nil {
		return nil, fmt.Errorf("machine of app %s: %w", m.Name, err)
	}
	return append(b, '\n'), nil
}

// smallestDisk is above what a disk is larger than the quota that it stands for.
const smallestDisk = 32 << 20
