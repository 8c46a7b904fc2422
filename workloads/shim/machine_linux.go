package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads/mount"
	"github.com/twinkeel/twinkeel/workloads/oci"
	"github.com/twinkeel/twinkeel/workloads/spec"
	"github.com/twinkeel/twinkeel/workloads/vm"
)

// machine is level vm: QEMU in a container of the application's own.
type machine struct {
	*supervisor
	line atomic.Pointer[vm.Line] // of the guest that runs, if it has one
}

// own reports whether the kernel is the application's.
func (c *machine) own() bool { return c.order.Unit.Manifest.Isolation.Kernel != "" }

// machineRoot is the directory that becomes the emulator's root.
const machineRoot = "machine"

func (c *machine) prepare(ctx context.Context) error {
	host, m := c.order.Machine, c.order.Unit.Manifest
	if host == nil {
		return errors.New("the order says nothing of a machine")
	}
	least := int64(vm.LeastLinux)
	if c.own() {
		least = vm.LeastOwn
	}
	if m.Limits.Memory < least {
		return fmt.Errorf("limits: memory: got %d bytes, want at least %d for the kernel of a machine", m.Limits.Memory, least)
	}
	e := spec.Emulator{Shown: map[string]string{}, Disks: map[string]string{}, Memory: vm.Overhead, KVM: host.KVM}
	if err := c.root(&e); err != nil {
		return err
	}
	if err := c.kernel(host, &e); err != nil {
		return err
	}
	for i, v := range m.Data {
		e.Disks[vm.VolumeAt(i)] = filepath.Join(c.volume(v.Name), diskFile)
	}
	if host.KVM {
		if err := c.kvm(&e); err != nil {
			return err
		}
	}
	e.Argv = append([]string{host.QEMU}, c.describe().Args()...)
	for _, at := range slices.Concat(keys(e.Shown), keys(e.Disks)) {
		if err := c.place(at); err != nil {
			return err
		}
	}
	// Like a container's root, it is one where neither devices nor other users' rights work.
	root := c.path(machineRoot)
	const flags = unix.MS_BIND | unix.MS_NOSUID | unix.MS_NODEV
	if err := errors.Join(unix.Mount(root, root, "", unix.MS_BIND, ""), unix.Mount("", root, "", unix.MS_REMOUNT|flags, "")); err != nil {
		return fmt.Errorf("root of the machine: %w", err)
	}
	in := c.input()
	in.Root, in.NetNS = root, c.namespace()
	b, err := spec.Machine(in, e)
	if err != nil {
		return err
	}
	return os.WriteFile(c.path("config.json"), b, 0o600)
}

func keys(m map[string]string) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}

// describe is the machine that QEMU is to be.
func (c *machine) describe() vm.Machine {
	m := c.order.Unit.Manifest
	d := vm.Machine{
		Name: m.Name, Memory: m.Limits.Memory, CPUs: min((m.Limits.CPU+999)/1000, 8), KVM: c.order.Machine.KVM,
		Volumes: len(m.Data), Network: c.order.Link != nil, Own: c.own(),
	}
	if d.Own {
		d.Line = strings.Join(m.Run.Argv, " ")
	}
	add := func(f vm.Forward) {
		if d.Network && !slices.Contains(d.Forward, f) {
			d.Forward = append(d.Forward, f)
		}
	}
	for _, p := range m.Network.Publish {
		add(vm.Forward{Proto: p.Proto, Port: p.App})
	}
	if h := m.Health; h.TCP != 0 {
		add(vm.Forward{Proto: "tcp", Port: h.TCP})
	} else if port, _, ok := strings.Cut(strings.TrimPrefix(h.HTTP, ":"), "/"); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			add(vm.Forward{Proto: "tcp", Port: uint16(n)})
		}
	}
	return d
}

// root makes the emulator's root: the host's programs and libraries, and nothing else.
func (c *machine) root(e *spec.Emulator) error {
	root := c.path(machineRoot)
	for _, dir := range []string{"dev", "etc", "proc", "run", "tmp", "usr", strings.TrimPrefix(vm.Dir, "/")} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	e.Shown["/usr"] = "/usr"
	for _, dir := range []string{"/bin", "/lib", "/lib32", "/lib64", "/sbin"} {
		to, err := os.Readlink(dir)
		if err == nil {
			if err := os.Symlink(to, filepath.Join(root, dir)); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
		} else if st, err := os.Stat(dir); err == nil && st.IsDir() {
			e.Shown[dir] = dir
		}
	}
	// QEMU is the guest's resolver, and asks the host's.
	for _, file := range []string{"/etc/ld.so.cache", "/etc/resolv.conf"} {
		if real, err := filepath.EvalSymlinks(file); err == nil {
			e.Shown[file] = real
		}
	}
	if !strings.HasPrefix(c.order.Machine.QEMU, "/usr/") {
		e.Shown[c.order.Machine.QEMU] = c.order.Machine.QEMU
	}
	e.Shown[vm.ImageAt] = c.path("image")
	return nil
}

// place makes what a file or directory is mounted on in the emulator's root.
func (c *machine) place(at string) error {
	path := c.path(filepath.Join(machineRoot, at))
	if strings.HasPrefix(at, "/dev/") {
		return nil // the runtime makes it, in the file system that it mounts there
	}
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o644)
}

// give writes a file that only the emulator reads: the application's variables are in it.
func (c *machine) give(name string, b []byte) (string, error) {
	path := c.path(name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := os.WriteFile(path, b, 0o400); err != nil {
		return "", err
	}
	id := int(c.order.FirstID) + spec.MachineID
	return path, os.Chown(path, id, id)
}

// kernel gives the emulator what the guest starts with.
func (c *machine) kernel(host *vm.Host, e *spec.Emulator) error {
	m := c.order.Unit.Manifest
	var b []byte
	var err error
	if c.own() {
		b, err = c.ownKernel()
	} else {
		b, err = os.ReadFile(host.Kernel)
	}
	if err == nil {
		e.Shown[vm.KernelAt], err = c.give("kernel", b)
	}
	if err != nil || c.own() {
		return err
	}
	init, err := os.ReadFile(host.Init)
	if err != nil {
		return err
	}
	var modules []vm.Module
	if host.Modules != "" {
		if modules, err = vm.Modules(os.DirFS(host.Modules), vm.Needed); err != nil {
			return err
		}
	}
	o := vm.Order{
		Argv: m.Run.Argv, Env: m.Run.Env, Cwd: m.Run.Cwd, UID: int(m.Run.UID), GID: int(m.Run.GID), Name: m.Name,
		Pids: m.Limits.Pids, Files: m.Limits.Files, Tmp: m.Limits.Tmp, Network: c.order.Link != nil,
	}
	for _, v := range m.Data {
		o.Volumes = append(o.Volumes, vm.Volume{Path: v.Path})
	}
	if b, err = vm.Initramfs(init, modules, o); err == nil {
		e.Shown[vm.InitrdAt], err = c.give("initrd", b)
	}
	return err
}

// ownKernel reads the application's kernel out of its image. The host's kernel does not
// look into it.
func (c *machine) ownKernel() ([]byte, error) {
	u := c.order.Unit
	return mount.Content(c.path("image"), u.Manifest.Image.Size, u.Manifest.Isolation.Kernel)
}

// kvm gives the emulator a device node that is its own.
func (c *machine) kvm(e *spec.Emulator) error {
	dir := c.path("devices")
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=711,size=64k"); err != nil {
		return fmt.Errorf("device of KVM: %w", err)
	}
	node := filepath.Join(dir, "kvm")
	var st unix.Stat_t
	err := unix.Stat("/dev/kvm", &st)
	if err == nil {
		err = unix.Mknod(node, unix.S_IFCHR|0o600, int(st.Rdev))
	}
	if err == nil {
		id := int(c.order.FirstID) + spec.MachineID
		err = os.Chown(node, id, id)
	}
	if err != nil {
		return fmt.Errorf("device of KVM: %w", err)
	}
	e.Disks["/dev/kvm"] = node
	return nil
}

// bootTime is how long a guest may take until its application runs. Where the processor
// is emulated and busy, that is long.
const bootTime = 3 * time.Minute

func (c *machine) start(ctx context.Context) (process, error) {
	ours, theirs, err := endsOfLine()
	if err != nil {
		return nil, err
	}
	// The monitor's descriptor is the second one, whether it is used or not.
	b := oci.Start{ID: c.order.ID, Bundle: c.dir, Output: c.output, Files: []*os.File{theirs, theirs}}
	pid, err := c.order.Runtime.Run(ctx, b)
	// Held here, it would hide that the machine has ended.
	if err = errors.Join(err, theirs.Close()); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	g := &guest{child: child{p}, conn: ours}
	if c.own() {
		return g, nil
	}
	g.line = vm.NewLine(ours)
	select {
	case text, ok := <-g.line.Up:
		if ok && text == "" {
			c.line.Store(g.line)
			return g, nil
		}
		err = fmt.Errorf("the guest's init: %q", text)
		if !ok {
			err = errors.New("the machine ended before its application ran; its console is in the log")
		}
	case <-time.After(bootTime):
		err = fmt.Errorf("the guest says nothing for %s", bootTime)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, g.line.Close(), p.Kill(), wait(p))
}

func wait(p *os.Process) error {
	_, err := p.Wait()
	return err
}

// endsOfLine makes two ends of a connection.
func endsOfLine() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("line to a machine: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "line")
	conn, err := net.FileConn(f)
	return conn, os.NewFile(uintptr(fds[1]), "line"), errors.Join(err, f.Close())
}

func (c *machine) exec(ctx context.Context, argv []string, in io.Reader, out, errs io.Writer) (int, error) {
	line := c.line.Load()
	if line == nil {
		return 0, errors.New("no guest that runs commands")
	}
	return line.Exec(ctx, argv, in, out, errs)
}

// dial asks the guest first: QEMU takes a connection before it knows whether the guest
// does.
func (c *machine) dial(ctx context.Context, port uint16) (net.Conn, error) {
	if line := c.line.Load(); line != nil {
		if err := line.Probe(ctx, port); err != nil {
			return nil, err
		}
	}
	if c.order.Link == nil {
		return nil, errors.New("no network leads into the machine")
	}
	return dialInside(ctx, c.status.get().PID, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
}

// guest is a machine that runs.
type guest struct {
	child
	line *vm.Line // nil: the kernel is the application's own
	conn net.Conn
}

func (g *guest) signal(s syscall.Signal) error {
	if g.line != nil {
		return g.line.Signal(byte(s))
	}
	// QEMU's own protocol, and the button that turns a machine off.
	_, err := io.WriteString(g.conn, `{"execute":"qmp_capabilities"}{"execute":"system_powerdown"}`)
	return err
}

// lastSync is how long a guest whose application is killed may take to write what it has.
const lastSync = 5 * time.Second

// kill ends the application first, so that its disks are left whole.
func (g *guest) kill() error {
	if g.line != nil && g.line.Signal(byte(syscall.SIGKILL)) == nil {
		time.AfterFunc(lastSync, func() { _ = g.child.kill() }) // if it still is there
		return nil
	}
	return g.child.kill()
}

func (g *guest) wait() outcome {
	defer func() { _ = g.conn.Close() }()
	if g.line == nil {
		return g.child.wait()
	}
	ended := make(chan outcome, 1)
	go func() { ended <- g.child.wait() }()
	// The machine turns itself off when the application has ended, or is turned off.
	said, ok := <-g.line.Down
	if ok {
		late := time.AfterFunc(lastSync, func() { _ = g.child.kill() })
		defer late.Stop()
	}
	o := <-ended
	switch {
	case !ok:
		return outcome{"the machine ended before its application: " + o.exit, true}
	case said.Signal != 0:
		return outcome{"signal: " + syscall.Signal(said.Signal).String(), true}
	}
	return outcome{"exit status " + strconv.Itoa(said.Code), said.Code != 0}
}

// diskFile is a volume's disk, in the volume's directory.
const diskFile = "machine.ext4"
