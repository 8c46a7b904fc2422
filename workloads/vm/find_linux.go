package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is what a host has for machines.
type Host struct {
	QEMU    string `json:"qemu"` // command
	MkFS    string `json:"mkfs"` // mkfs.ext4
	Init    string `json:"init"` // the guest's first program, static
	Kernel  string `json:"kernel,omitempty"`
	Modules string `json:"modules,omitempty"` // directory; empty: the kernel has none
	KVM     bool   `json:"kvm"`
}

// Wish is what a host is configured with; empty: what it has.
type Wish struct {
	QEMU, Kernel, Modules, Init string
}

// DefaultInit is where the package of the agent puts the guest's first program.
const DefaultInit = "/usr/lib/twinkeel/twinkeel-init"

// Find looks for all that a machine needs. A machine with a kernel of its own needs
// neither the host's nor an init.
func Find(w Wish, own bool) (Host, error) {
	if runtime.GOARCH != "amd64" {
		return Host{}, fmt.Errorf("machines are made on amd64 only, this is %s", runtime.GOARCH)
	}
	h := Host{KVM: kvm()}
	var err, err2 error
	if h.QEMU, err = command(w.QEMU, "qemu-system-x86_64"); err != nil {
		err = fmt.Errorf("%w; install qemu-system-x86", err)
	}
	if h.MkFS, err2 = command("", "mkfs.ext4"); err2 != nil {
		err2 = fmt.Errorf("%w; install e2fsprogs", err2)
	}
	if err := errors.Join(err, err2); err != nil || own {
		return h, err
	}
	h.Init = w.Init
	if h.Init == "" {
		h.Init = DefaultInit
	}
	if _, err := os.Stat(h.Init); err != nil {
		return h, fmt.Errorf("the guest's init: %w", err)
	}
	return h, h.findKernel(w)
}

// findKernel takes the kernel that is configured, or the one that the host runs.
func (h *Host) findKernel(w Wish) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	running := unix.ByteSliceToString(name.Release[:])
	kernels := []string{w.Kernel}
	if w.Kernel == "" {
		kernels = []string{"/boot/vmlinuz-" + running, "/usr/lib/modules/" + running + "/vmlinuz", "/lib/modules/" + running + "/vmlinuz"}
	}
	for _, k := range kernels {
		if st, err := os.Stat(k); err == nil && st.Mode().IsRegular() {
			h.Kernel = k
			break
		}
	}
	if h.Kernel == "" {
		return fmt.Errorf("no kernel for guests: none of %s is there; name one as apps.kernel", strings.Join(kernels, ", "))
	}
	h.Modules = w.Modules
	if h.Modules == "" && w.Kernel == "" {
		h.Modules = "/lib/modules/" + running
	}
	if h.Modules == "" {
		// A kernel that was configured without modules has everything inside.
		return nil
	}
	if _, err := os.Stat(filepath.Join(h.Modules, "modules.dep")); err != nil {
		return fmt.Errorf("modules of the guests' kernel: %w", err)
	}
	return nil
}

// command looks for a program, also where only root's shell does.
func command(path, name string) (string, error) {
	if path != "" {
		return exec.LookPath(path)
	}
	for _, dir := range []string{"/usr/bin/", "/usr/sbin/", "/sbin/", "/usr/local/bin/"} {
		if full, err := exec.LookPath(dir + name); err == nil {
			return full, nil
		}
	}
	return exec.LookPath(name)
}

// kvm reports whether the processor can run a guest. Without the flags of one that does,
// /dev/kvm may be there (of a host that is a guest itself), and hang.
func kvm() bool {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return false
	}
	flags := " " + string(b[:min(len(b), 16<<10)]) + " "
	flags = strings.ReplaceAll(flags, "\n", " \n")
	if !strings.Contains(flags, " vmx ") && !strings.Contains(flags, " svm ") {
		return false
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	const getVersion, version = 0xae00, 12 // KVM_GET_API_VERSION, of linux/kvm.h
	n, err := unix.IoctlRetInt(int(f.Fd()), getVersion)
	return err == nil && n == version
}
