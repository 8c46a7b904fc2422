package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads/mount"
	"github.com/twinkeel/twinkeel/workloads/network"
	"github.com/twinkeel/twinkeel/workloads/oci"
	"github.com/twinkeel/twinkeel/workloads/spec"
	"github.com/twinkeel/twinkeel/workloads/vm"
)

// Descriptors that a shim is started with: what it says of its start, what it is told to
// start at, the mapping to its ids, and from the next one on the listening sockets of its
// application, in the order of the manifest. Behind them there may be the image.
const (
	reportFD = 3
	wordFD   = 4
	idsFD    = 5
	socketFD = 6
)

// report is what a shim says when its application runs or cannot run; and before that, if
// it has not been told to start yet, once when it could.
type report struct {
	Ready   bool   `json:"ready,omitempty"`
	Error   string `json:"error,omitempty"`
	Missing bool   `json:"missing,omitempty"`
}

// cleanUp is how long the end of what is left may take.
const cleanUp = 20 * time.Second

// supervisor is a shim at work.
type supervisor struct {
	dir     string
	order   *Order
	groups  oci.Hierarchy
	sockets []*os.File
	image   *os.File // of the application, to be mounted; nil: from the order's file
	output  *os.File // the application's end of the pipe
	cage    cage
	room    *room
	log     *slog.Logger
	status  status
	stops   chan stopping
	answers atomic.Int32 // being worked on
	resting atomic.Bool  // memory is about to be given back
	// adopting says that orphans are waited for.
	adopting atomic.Bool
	// unrested is how many answers were given since that was done last.
	unrested atomic.Int32
}

// Main runs the shim of a directory until its application is stopped. It has been
// executed for that alone: with a session and a mount namespace of its own, and with a
// pipe on which it says once how the start went.
func Main(ctx context.Context, dir string, log *slog.Logger) error {
	debug.SetGCPercent(-1) // until the start is over (settleDown): what it leaves is collected once
	say, word := os.NewFile(reportFD, "report"), os.NewFile(wordFD, "word")
	unix.CloseOnExec(reportFD)
	unix.CloseOnExec(wordFD)
	unix.CloseOnExec(idsFD)
	s := &supervisor{dir: dir, log: log, groups: oci.Groups(), stops: make(chan stopping)}
	lock, err := s.prepare(ctx)
	if err != nil {
		_ = s.clean()
		return errors.Join(err, tell(say, err))
	}
	defer func() { _ = lock.Close() }()
	// For whoever asks meanwhile: the shim before this one may have been killed.
	s.status.set(func(st *Status) { st.State.Exit = "its shim has not started it yet" })
	closeServer, err := s.listen()
	if err != nil {
		_ = s.clean()
		return errors.Join(err, tell(say, err))
	}
	defer closeServer()
	defer s.lastAnswers()
	first := s.cage.start
	if !given(word) {
		first = func(ctx context.Context) (process, error) { return s.startAt(ctx, word, say) }
	}
	return s.supervise(ctx, first, func(err error) { _ = tell(say, err) })
}

// lastAnswers waits a moment for answers that are on their way, such as the one that the
// application has stopped.
func (s *supervisor) lastAnswers() {
	for range 100 {
		if s.answers.Load() == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// tell says how the start went.
func tell(w io.WriteCloser, err error) error {
	var r report
	if err != nil {
		r.Error = err.Error()
		r.Missing = errors.Is(err, oci.ErrNone)
	}
	return errors.Join(json.NewEncoder(w).Encode(r), w.Close())
}

// prepare does all that a start needs once.
func (s *supervisor) prepare(ctx context.Context) (lock *os.File, err error) {
	lock, err = os.OpenFile(filepath.Join(s.dir, lockFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("shim in %s: another one lives: %w", s.dir, err)
	}
	if s.order, err = ReadOrder(s.dir); err != nil {
		return nil, err
	}
	for i := range s.order.Unit.Manifest.Network.Sockets {
		unix.CloseOnExec(socketFD + i)
		s.sockets = append(s.sockets, os.NewFile(uintptr(socketFD+i), "socket "+strconv.Itoa(i)))
	}
	s.image = mount.Given(uintptr(socketFD + len(s.sockets)))
	if s.cage, err = s.newCage(); err != nil {
		return nil, err
	}
	steps := []func(context.Context) error{
		s.settle, s.endLeftovers, s.openOutput, s.devices, s.mount, s.limit, s.connect, s.cage.prepare,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("start app %s: %w", s.order.Unit.Name(), err)
		}
	}
	return lock, nil
}

// unified is where version 2 of control groups is mounted beside version 1.
const unified = "/sys/fs/cgroup/unified"

// settle finds a place of its own for this process.
func (s *supervisor) settle(context.Context) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of containers: %w", err)
	}
	if mayRaise() { // otherwise it may be killed for memory before its application
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-500"), 0); err != nil {
			s.log.Warn("score for lack of memory", "err", err)
		}
	}
	if err := standUp(); err != nil { // it may lack CAP_SYS_NICE
		s.log.Warn("application keeps the agent's priority", "err", err)
	}
	if err := os.MkdirAll(s.order.Runtime.State, 0o700); err != nil {
		return err
	}
	if err := s.groups.Join(s.order.ownGroup()); err != nil {
		return err
	}
	if s.order.Runtime.Kind == oci.Crun && !s.groups.Unified {
		// crun refuses hosts on which version 2 is mounted beside version 1. In this
		// mount namespace something else is: crun writes there, believing otherwise.
		s.groups = s.groups.Without(unified)
		if err := unix.Mount("none", unified, "tmpfs", 0, "mode=700,size=1m"); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("hide control groups of version 2 from crun: %w", err)
		}
	}
	return nil
}

// mayRaise reports whether this process has CAP_SYS_RESOURCE.
func mayRaise() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	return unix.Capget(&head, &sets[0]) == nil && sets[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// endLeftovers ends what an earlier shim of this order left running.
func (s *supervisor) endLeftovers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanUp)
	defer cancel()
	if err := s.groups.Kill(ctx, s.order.group()); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.order.Runtime.State, s.order.ID)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return s.order.Runtime.Delete(ctx, s.order.ID)
}

// devices gives the application device nodes that it shares with nobody.
func (s *supervisor) devices(context.Context) error {
	err := mount.Devices(s.path("dev"))
	if errors.Is(err, unix.EPERM) { // the agent was started without CAP_MKNOD
		s.log.Warn("application can watch when others open devices", "err", err)
		return nil
	}
	return err
}

// mount makes the image and the data visible below the directory.
func (s *supervisor) mount(ctx context.Context) error {
	m := s.order.Unit.Manifest
	for _, v := range m.Data {
		if err := s.checkVolume(ctx, v); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	ids := mount.Mapped(os.NewFile(idsFD, "ids"))
	defer func() { _ = ids.Close() }()
	var err error
	image := s.path("image")
	if m.Isolation.Level == "vm" { // another kernel's to look into
		if err := os.WriteFile(image, nil, 0o444); err != nil {
			return err
		}
		err = mount.File(s.order.Unit.Image, m.Image, s.order.Unit.Verified, image)
	} else {
		err = s.mountRoot(ids, image)
	}
	if err != nil {
		return err
	}
	for _, v := range m.Data {
		at := s.volume(v.Name)
		if err := os.MkdirAll(at, 0o711); err != nil {
			return err
		}
		if err := ids.Bind(s.order.Unit.Data[v.Name], at, false); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	return nil
}

// mountRoot mounts the image as a container's root.
func (s *supervisor) mountRoot(ids *mount.Mapping, image string) error {
	m, root := s.order.Unit.Manifest, s.path("root")
	for _, dir := range []string{image, root} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	var err error
	if s.image != nil {
		err = mount.Attach(s.image, image)
	} else {
		err = mount.Image(s.order.Unit.Image, m.Image, s.order.Unit.Verified, image)
	}
	if err != nil {
		return err
	}
	points := []string{"/dev", "/proc", "/run", "/tmp"}
	for _, v := range m.Data {
		points = append(points, v.Path)
	}
	if err := mount.Check(image, points); err != nil {
		return err
	}
	return ids.Bind(image, root, true)
}

// checkVolume sees to it that a volume is of the manifest's level: a machine has its data
// on a disk, and nobody else looks into that.
func (s *supervisor) checkVolume(ctx context.Context, v release.AppVolume) error {
	dir := s.order.Unit.Data[v.Name]
	if st, err := os.Lstat(dir); err != nil {
		return err
	} else if !st.IsDir() {
		return fmt.Errorf("%s: got %s, want a directory", dir, st.Mode())
	}
	if s.order.Machine != nil {
		m := s.order.Unit.Manifest
		owner := vm.Owner{File: spec.MachineID, UID: int(m.Run.UID), GID: int(m.Run.GID)}
		return vm.Disk(ctx, s.order.Machine.MkFS, filepath.Join(dir, diskFile), owner, v.Quota)
	}
	if _, err := os.Lstat(filepath.Join(dir, diskFile)); err == nil {
		return fmt.Errorf("it holds %s, the disk of isolation level vm: move it away, or into a generation of its own", diskFile)
	}
	return nil
}

func (s *supervisor) volume(name string) string { return filepath.Join(s.dir, "data", name) }

// connect makes the application's private network.
func (s *supervisor) connect(context.Context) error {
	if s.order.Link == nil {
		return nil
	}
	return network.Connect(*s.order.Link, s.namespace())
}

// namespace is where the private network can be joined.
func (s *supervisor) namespace() string {
	if s.order.Link == nil {
		return ""
	}
	return filepath.Join(s.dir, "network")
}

func (s *supervisor) path(name string) string { return filepath.Join(s.dir, name) }

// input is what every configuration of a runtime depends on.
func (s *supervisor) input() spec.Input {
	return spec.Input{
		Manifest: s.order.Unit.Manifest, Grants: s.order.Unit.Grants, FirstID: s.order.FirstID,
		Devices: s.order.Devices, Cgroup: s.order.group(),
		Unified: s.groups.Unified, Swap: s.groups.Swap, Score: mayRaise(),
	}
}

// files are of the host's content and cover the image's: names are looked up where the host
// looks them up, by an application that may talk to others. It gets a copy: what it could
// watch of the host's own file is when others look up a name.
func (s *supervisor) files() (map[string]string, error) {
	const resolv = "/etc/resolv.conf"
	if s.order.Unit.Manifest.Network.Mode == "none" {
		return nil, nil
	}
	if i, err := os.Lstat(filepath.Join(s.dir, "image", resolv)); err != nil || !i.Mode().IsRegular() {
		return nil, nil
	}
	// With a resolver of the host's own at 127.0.0.53, the file behind it.
	for _, f := range []string{"/run/systemd/resolve/resolv.conf", resolv} {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		own := s.path("resolv.conf")
		if err := os.WriteFile(own, b, 0o600); err != nil {
			return nil, err
		}
		return map[string]string{resolv: own}, os.Chmod(own, 0o644) // past the umask
	}
	return nil, nil
}

// clean takes away what prepare made and a mount namespace does not.
func (s *supervisor) clean() error {
	if s.order == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanUp)
	defer cancel()
	helpers := s.groups.Members(s.order.group())
	err := errors.Join(s.groups.Kill(ctx, s.order.group()), s.order.Runtime.Delete(ctx, s.order.ID), s.groups.Kill(ctx, s.order.group()))
	s.reap(helpers)
	return err
}

// tidy is clean for a container whose first process has ended and was waited for: the
// kernel ends all others of its namespace before that.
func (s *supervisor) tidy() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUp)
	defer cancel()
	helpers := s.groups.Members(s.order.group())
	err := errors.Join(s.order.Runtime.Forget(ctx, s.order.ID), s.groups.Kill(ctx, s.order.group()))
	s.reap(helpers)
	return err
}

// reap waits for a runtime's processes that became ours.
func (s *supervisor) reap(pids []int) {
	for _, pid := range pids {
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}
