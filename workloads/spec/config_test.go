package spec

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/twinkeel/twinkeel/release"
)

var update = flag.Bool("update", false, "write the golden vectors anew")

func input() Input {
	return Input{
		Manifest: &release.AppManifest{
			Name: "web", Class: "app",
			Run:       release.AppRun{Argv: []string{"/bin/web", "-v"}, Env: []string{"LANG=C.UTF-8"}, Cwd: "/", UID: 1000, GID: 1000, Signal: "SIGTERM", Grace: release.Duration(10 * time.Second)},
			Isolation: release.AppIsolation{Level: "container"},
			Limits:    release.AppLimits{Memory: 64 << 20, CPU: 500, Pids: 64, Files: 1024, Tmp: 16 << 20, Log: 1 << 20},
			Network:   release.AppNetwork{Mode: "none", Sockets: []release.AppSocket{{Name: "http", Listen: "127.0.0.1:80"}}},
			Data:      []release.AppVolume{{Name: "db", Path: "/data", Class: "versioned", Quota: 1 << 30}},
		},
		FirstID: 0x20000000, Root: "/run/twinkeel/apps/web/root",
		Volumes: map[string]string{"db": "/run/twinkeel/apps/web/data/db"}, Cgroup: "/twinkeel/web", Score: true,
	}
}

func config(t *testing.T, in Input) *specs.Spec {
	t.Helper()
	b, err := Config(in)
	if err != nil {
		t.Fatal(err)
	}
	var s specs.Spec
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func TestTheConfigurationIsTheGoldenOne(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the vector is that of amd64: system calls have other names elsewhere")
	}
	b, err := Config(input())
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer // for people
	if err := json.Indent(&lines, b, "", "\t"); err != nil {
		t.Fatal(err)
	}
	got := lines.Bytes()
	file := filepath.Join("testdata", "default.json")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got another configuration than %s: look at the difference, then run with -update", file)
	}
}

func TestTheDefaultGivesNothing(t *testing.T) {
	s := config(t, input())
	c := s.Process.Capabilities
	if n := len(c.Bounding) + len(c.Effective) + len(c.Permitted) + len(c.Inheritable) + len(c.Ambient); n != 0 {
		t.Errorf("capabilities: got %d, want none", n)
	}
	if !s.Root.Readonly || !s.Process.NoNewPrivileges || s.Process.User.UID == 0 {
		t.Errorf("got a writable root, new privileges, or the root user: %+v %+v", s.Root, s.Process)
	}
	kinds := map[specs.LinuxNamespaceType]bool{}
	for _, n := range s.Linux.Namespaces {
		kinds[n.Type] = n.Path == ""
	}
	for _, k := range []specs.LinuxNamespaceType{specs.UserNamespace, specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace} {
		if !kinds[k] {
			t.Errorf("namespace %s: got the host's or none, want its own", k)
		}
	}
	for _, m := range s.Linux.UIDMappings {
		if m.HostID == 0 || m.Size != IDs {
			t.Errorf("ids: got %+v, want %d that belong to nobody", m, IDs)
		}
	}
	for _, m := range s.Mounts {
		if !slices.Contains(m.Options, "nosuid") || !slices.Contains(m.Options, "noexec") {
			t.Errorf("mount %s: got options %v, want nosuid and noexec", m.Destination, m.Options)
		}
		if m.Type != "bind" && strings.HasPrefix(m.Source, "/") {
			t.Errorf("mount %s: got source %s", m.Destination, m.Source)
		}
	}
	r := s.Linux.Resources
	if *r.Memory.Limit <= 0 || *r.Pids.Limit <= 0 || *r.CPU.Quota != 50_000 || r.Devices[0].Allow {
		t.Errorf("limits: got memory %d, pids %d, cpu %d, devices %+v", *r.Memory.Limit, *r.Pids.Limit, *r.CPU.Quota, r.Devices)
	}
}

func TestAnApplicationIsKilledForMemoryBeforeTheHostAndAServiceOfTheSystemLater(t *testing.T) {
	for class, want := range map[string]int{"app": 500, "system": 100} {
		in := input()
		in.Manifest.Class = class
		if got := config(t, in).Process.OOMScoreAdj; got == nil || *got != want {
			t.Errorf("class %s: got score %v, want %d", class, got, want)
		}
		in.Score = false
		if got := config(t, in).Process.OOMScoreAdj; got != nil {
			t.Errorf("class %s, which could lower it: got score %d, want none", class, *got)
		}
	}
}

func TestNoRefusedCallIsAllowed(t *testing.T) {
	f := config(t, input()).Linux.Seccomp
	if f.DefaultAction != specs.ActErrno || len(f.Architectures) != 1 {
		t.Errorf("got default %s and architectures %v, want refusal and one", f.DefaultAction, f.Architectures)
	}
	for _, call := range f.Syscalls {
		for _, name := range call.Names {
			bare := len(call.Args) == 0
			if call.Action == specs.ActAllow && slices.Contains(refused, name) && (bare || !slices.Contains([]string{"socket", "socketpair", "ioctl"}, name)) {
				t.Errorf("%s is allowed", name)
			}
			for _, never := range []string{"bpf", "mount", "unshare", "setns", "keyctl", "io_uring_setup", "userfaultfd", "clone3"} {
				if name == never && call.Action == specs.ActAllow {
					t.Errorf("%s is allowed", name)
				}
			}
		}
	}
}

func TestAPermissionIsGivenOnlyIfAskedForAndGranted(t *testing.T) {
	perm := func(name, value string) release.AppPermission { return release.AppPermission{Name: name, Value: value} }
	for name, c := range map[string]struct {
		ask, grant []release.AppPermission
		change     func(*Input)
		want       string // part of the error; empty: none
	}{
		"asked, not granted":  {ask: []release.AppPermission{perm("proc-full", "")}, want: "not granted"},
		"granted, not asked":  {grant: []release.AppPermission{perm("capability", "CHOWN")}},
		"both":                {ask: []release.AppPermission{perm("capability", "CHOWN")}, grant: []release.AppPermission{perm("capability", "CHOWN")}},
		"another value":       {ask: []release.AppPermission{perm("capability", "SETUID")}, grant: []release.AppPermission{perm("capability", "CHOWN")}, want: "not granted"},
		"never":               {ask: []release.AppPermission{perm("capability", "SYS_ADMIN")}, grant: []release.AppPermission{perm("capability", "SYS_ADMIN")}, want: "want one of"},
		"unknown":             {ask: []release.AppPermission{perm("everything", "")}, grant: []release.AppPermission{perm("everything", "")}, want: "does not know"},
		"agent's directory":   {ask: []release.AppPermission{perm("host-path", "/var/lib")}, grant: []release.AppPermission{perm("host-path", "/var/lib")}, want: "never"},
		"the root":            {ask: []release.AppPermission{perm("host-path", "/")}, grant: []release.AppPermission{perm("host-path", "/")}, want: "absolute"},
		"dots":                {ask: []release.AppPermission{perm("host-path", "/srv/../etc/twinkeel")}, grant: []release.AppPermission{perm("host-path", "/srv/../etc/twinkeel")}, want: "absolute"},
		"a directory":         {ask: []release.AppPermission{perm("host-path", "/srv:rw")}, grant: []release.AppPermission{perm("host-path", "/srv:rw")}},
		"a disk":              {ask: []release.AppPermission{perm("device", "/dev/sda")}, grant: []release.AppPermission{perm("device", "/dev/sda")}, change: func(in *Input) { in.Devices = map[string]Device{"/dev/sda": {"b", 8, 0}} }, want: "never"},
		"memory":              {ask: []release.AppPermission{perm("device", "/dev/x")}, grant: []release.AppPermission{perm("device", "/dev/x")}, change: func(in *Input) { in.Devices = map[string]Device{"/dev/x": {"c", 1, 1}} }, want: "never"},
		"a serial line":       {ask: []release.AppPermission{perm("device", "/dev/ttyUSB0:rw")}, grant: []release.AppPermission{perm("device", "/dev/ttyUSB0:rw")}, change: func(in *Input) { in.Devices = map[string]Device{"/dev/ttyUSB0": {"c", 188, 0}} }},
		"root without asking": {change: func(in *Input) { in.Manifest.Run.UID = 0 }, want: "does not ask"},
		"host network":        {change: func(in *Input) { in.Manifest.Network.Mode = "host" }, want: "does not ask"},
		"a low port": {change: func(in *Input) {
			in.Manifest.Network.Publish = []release.AppPort{{Name: "http", Proto: "tcp", Host: 80, App: 8080}}
		}, want: "does not ask"},
		"a lower level": {change: func(in *Input) { in.Manifest.Isolation.Level = "vm" }, want: "never lowered"},
		"a sandbox":     {change: func(in *Input) { in.Manifest.Isolation.Level, in.Manifest.Network.Sockets = "sandbox", nil }},
		"a sandbox with a device": {ask: []release.AppPermission{perm("device", "/dev/x")}, grant: []release.AppPermission{perm("device", "/dev/x")},
			change: func(in *Input) {
				in.Manifest.Isolation.Level, in.Manifest.Network.Sockets, in.Devices = "sandbox", nil, map[string]Device{"/dev/x": {"c", 188, 0}}
			}, want: "leads to the host's kernel"},
		"the host's root":       {change: func(in *Input) { in.FirstID = 0 }, want: "first id"},
		"ids of two":            {change: func(in *Input) { in.FirstID++ }, want: "first id"},
		"a volume over /proc":   {change: func(in *Input) { in.Manifest.Data[0].Path = "/proc/sys" }, want: "kernel"},
		"a volume over /sys":    {change: func(in *Input) { in.Manifest.Data[0].Path = "/sys" }, want: "kernel"},
		"a volume without data": {change: func(in *Input) { in.Volumes = nil }, want: "no directory"},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			in.Manifest.Permissions, in.Grants = c.ask, c.grant
			if c.change != nil {
				c.change(&in)
			}
			b, err := Config(in)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %d bytes and %v, want an error with %q", len(b), err, c.want)
			}
			if name == "granted, not asked" && len(config(t, in).Process.Capabilities.Effective) != 0 {
				t.Errorf("got a capability that nobody asked for")
			}
		})
	}
}

func TestTheEmulatorOfAMachineIsConfinedAsAnyApplication(t *testing.T) {
	in := input()
	in.Manifest.Isolation.Level, in.Manifest.Network.Sockets, in.Manifest.Run.UID, in.Manifest.Update.Strategy = "vm", nil, 33, "stop-start"
	memory := in.Manifest.Limits.Memory
	b, err := Machine(in, Emulator{Argv: []string{"/usr/bin/qemu"}, Shown: map[string]string{"/usr": "/usr"}, Disks: map[string]string{"/vm/volume0": "/x/disk"}, Memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var s specs.Spec
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	if p := s.Process; p.User.UID != MachineID || len(p.Capabilities.Bounding) != 0 || !p.NoNewPrivileges || p.Args[0] != "/usr/bin/qemu" {
		t.Errorf("process: got %+v", p)
	}
	if s.Linux.Seccomp == nil || len(s.Linux.UIDMappings) != 1 || !s.Root.Readonly || *s.Linux.Resources.Memory.Limit != memory+1<<20 {
		t.Errorf("got %+v", s.Linux)
	}
	for _, m := range s.Mounts {
		if m.Type == "bind" && m.Destination != "/vm/volume0" && !slices.Contains(m.Options, "ro") {
			t.Errorf("%s can be written to", m.Destination)
		}
		if m.Type == "bind" && !slices.Contains(m.Options, "nodev") {
			t.Errorf("%s may hold devices", m.Destination)
		}
	}
	in.Manifest.Permissions = []release.AppPermission{{Name: "outbound"}}
	if _, err := Machine(in, Emulator{}); err == nil || !strings.Contains(err.Error(), "not granted") {
		t.Errorf("a permission that is not granted: got %v", err)
	}
}
