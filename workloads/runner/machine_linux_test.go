package runner_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/vm"
)

// newMachines is a host with QEMU and Debian's kernel for virtual machines, which
// `.ci/install e2e` unpacks.
func newMachines(t *testing.T) *host {
	t.Helper()
	h := newHost(t, "")
	const cache = "../../.cache/vm"
	kernels, _ := filepath.Glob(cache + "/boot/vmlinuz-*")
	trees, _ := filepath.Glob(cache + "/lib/modules/*/kernel")
	_, err := exec.LookPath("qemu-system-x86_64")
	needs.That(t, err == nil && len(kernels) == 1 && len(trees) == 1, "QEMU and the kernel of .ci/install e2e, for level vm")
	kernel, err := filepath.Abs(kernels[0])
	if err != nil {
		t.Fatal(err)
	}
	h.options.Machines = vm.Wish{Kernel: kernel, Modules: h.modules(filepath.Dir(trees[0])), Init: command(t, "cmd/twinkeel-init")}
	h.open()
	return h
}

// modules lists the modules of an unpacked package, as depmod would at its installation.
func (h *host) modules(from string) string {
	h.t.Helper()
	from, err := filepath.Abs(from)
	if err != nil {
		h.t.Fatal(err)
	}
	to := filepath.Join(h.dir, "modules")
	if err := os.Mkdir(to, 0o755); err != nil {
		h.t.Fatal(err)
	}
	for _, name := range []string{"kernel", "modules.builtin"} {
		if err := os.Symlink(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			h.t.Fatal(err)
		}
	}
	files, direct := map[string]string{}, map[string][]string{}
	clean := func(s string) string { return strings.ReplaceAll(s, "-", "_") }
	for _, dir := range []string{"drivers/virtio", "drivers/block", "drivers/char", "drivers/net", "net/core", "fs/erofs", "lib"} {
		err := filepath.WalkDir(filepath.Join(from, "kernel", dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || filepath.Ext(path) != ".ko" {
				return err
			}
			f, err := elf.Open(path)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			info, err := f.Section(".modinfo").Data()
			if err != nil {
				return err
			}
			name := clean(strings.TrimSuffix(filepath.Base(path), ".ko"))
			files[name] = strings.TrimPrefix(path, from+"/")
			for entry := range bytes.SplitSeq(info, []byte{0}) {
				if list, ok := bytes.CutPrefix(entry, []byte("depends=")); ok && len(list) > 0 {
					direct[name] = strings.Split(clean(string(list)), ",")
				}
			}
			return nil
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	var out bytes.Buffer
	for name, file := range files {
		fmt.Fprintf(&out, "%s:", file)
		// The nearest first, and what those need behind them.
		for queue := direct[name]; len(queue) > 0; queue = append(queue[1:], direct[queue[0]]...) {
			fmt.Fprintf(&out, " %s", files[queue[0]])
		}
		out.WriteByte('\n')
	}
	if err := os.WriteFile(filepath.Join(to, "modules.dep"), out.Bytes(), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return to
}

// command builds one of the project's commands, static.
func command(t testing.TB, name string) string {
	t.Helper()
	out := filepath.Join(os.TempDir(), fmt.Sprintf("twinkeel-programs-%d", os.Getpid()), filepath.Base(name))
	if _, err := os.Stat(out); err == nil {
		return out
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "github.com/twinkeel/twinkeel/"+name)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, b)
	}
	return out
}

// patience is more than an emulated machine takes beside other work.
const patience = 3 * time.Minute

// patiently waits as long as an emulated machine may take.
func (h *host) patiently(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("never came about: %s; log:\n%s", what, h.said())
		}
	}
}

func inMachine(u workloads.Unit) workloads.Unit {
	u.Manifest.Isolation.Level = "vm"
	u.Manifest.Limits.Memory = 128 << 20
	u.Manifest.Run.Grace = release.Duration(30 * time.Second)
	u.Manifest.Health.Timeout = release.Duration(20 * time.Second)
	return u
}

// One machine shows it all: each takes seconds to boot.
func TestAnApplicationInAMachineServesKeepsItsDataAndEndsAsItIsTold(t *testing.T) {
	h := newMachines(t)
	u := inMachine(h.server("1", "stop-start"))
	u.Manifest.Data = []release.AppVolume{{Name: "db", Path: "/data", Class: "versioned", Quota: 1 << 20}}
	h.start(u)
	h.patiently("health", func() bool { return h.Healthy(t.Context(), "web") == nil })
	c := ask("127.0.0.1:8081")
	h.patiently("an answer through the published port", func() bool { return strings.Contains(h.said(), "serving 1") })
	time.Sleep(500 * time.Millisecond)
	c.end()
	if c.answers["1"] == 0 {
		t.Errorf("got answers %v and failures %v, want some of 1", c.answers, c.failed)
	}
	for what, argv := range map[string][]string{
		"another kernel":  {"/bin/actor", "read", "/proc/version"},
		"no capabilities": {"/bin/actor", "read", "/proc/self/status"},
	} {
		out, code := h.exec(argv...)
		want := map[string]string{"another kernel": "Debian", "no capabilities": "CapBnd:\t0000000000000000"}[what]
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: got code %d and %q, want %q in it", what, code, out, want)
		}
	}
	out, _ := h.exec("/bin/actor", "read", "/proc/self/status")
	for _, want := range []string{"Uid:\t1000\t1000\t1000\t1000", "NoNewPrivs:\t1"} {
		contains(t, out, want)
	}
	if _, code := h.exec("/bin/actor", "exit", "7"); code != 7 {
		t.Errorf("exit code: got %d, want 7", code)
	}
	if out, code := h.exec("/bin/actor", "write", "/bin/x", "x"); code == 0 {
		t.Errorf("wrote into its image: %s", out)
	}
	// It says so and sleeps: a command that is given up is ended in the guest.
	var said bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := h.Exec(ctx, "web", []string{"/bin/actor", "fill", "/data"}, nil, &said, &said); err == nil || !strings.Contains(said.String(), "wrote") {
		t.Errorf("filling its volume: got %v and %q, want that it wrote and was ended", err, said.String())
	}
	if _, code := h.exec("/bin/actor", "write", "/data/mine", "x"); code == 0 {
		t.Error("a full disk took another file")
	}
	if err := h.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	contains(t, h.status().Exit+h.said(), "")
	u.Manifest.Isolation.Level = "container"
	if err := h.Start(t.Context(), u); err == nil || !strings.Contains(err.Error(), "isolation level vm") {
		t.Errorf("as a container on a machine's disk: got %v, want an error", err)
	}
}

// ownKernel is a whole kernel: a multiboot header (as QEMU loads it, by the addresses in
// it), and code that writes a word on the console and turns the machine off.
var ownKernel = append([]byte{
	0x02, 0xb0, 0xad, 0x1b, 0x00, 0x00, 0x01, 0x00, 0xfe, 0x4f, 0x51, 0xe4, // magic, flags, checksum
	0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x10, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x00, 0x10, 0x00, // where it lies, where it begins
	0xbe, 0x3e, 0x00, 0x10, 0x00, // mov esi, text
	0xac, 0x84, 0xc0, 0x74, 0x07, // lodsb; test al, al; jz off
	0x66, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf4, // mov dx, 0x3f8; out dx, al; jmp lodsb
	0xb8, 0x10, 0x00, 0x00, 0x00, 0x66, 0xba, 0xf4, 0x00, 0xef, // mov eax, 16; mov dx, 0xf4; out dx, eax
	0xf4, 0xeb, 0xfd, // hlt
}, "a kernel of its own\n\x00"...)

func TestAKernelOfTheApplicationsOwnIsBootedInAMachine(t *testing.T) {
	h := newHost(t, "")
	_, err := exec.LookPath("qemu-system-x86_64")
	needs.That(t, err == nil, "QEMU, for level vm")
	file, img := h.image("own", func(root string) {
		if err := os.WriteFile(filepath.Join(root, "kernel"), ownKernel, 0o644); err != nil {
			t.Fatal(err)
		}
	})
	u := h.unit("1.0.0", file, img, "a", "command", "line")
	u.Manifest.Isolation = release.AppIsolation{Level: "vm", Kernel: "/kernel"}
	u.Manifest.Limits.Memory, u.Manifest.Update.Restart = 16<<20, "never"
	h.start(u)
	h.patiently("its end", func() bool { s := h.status(); return !s.Running && s.Exit != "" })
	contains(t, h.said(), "a kernel of its own")
	contains(t, h.status().Exit, "exit status 33") // as the device makes of 16
}

func TestAMachineThatCannotBeIsRefusedAndNotLowered(t *testing.T) {
	h := newHost(t, "")
	for what, wish := range map[string]vm.Wish{
		"no emulator": {QEMU: "/nowhere/qemu"}, "no kernel": {Kernel: "/nowhere/vmlinuz", Init: "/bin/sh"}, "no init": {Init: "/nowhere/init"},
	} {
		h.options.Machines = wish
		h.open()
		if err := h.Start(t.Context(), inMachine(h.actor("sleep"))); !errors.Is(err, workloads.ErrMissing) {
			t.Errorf("%s: got %v, want that the host lacks it", what, err)
		}
		if said := strings.Join(h.Doctor(t.Context()), "\n"); !strings.Contains(said, "level vm") {
			t.Errorf("%s: doctor: got %q, want a word on it", what, said)
		}
	}
}
