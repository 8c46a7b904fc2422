package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads/vm"
)

// StageName is what the program is called as the process that becomes the application.
const StageName = "@twinkeel-app"

// root is where the image is mounted.
const root = "/app"

// Wanted reports whether this boot is a machine of level vm.
func Wanted() bool {
	_, err := os.Stat("/" + vm.OrderFile)
	return err == nil
}

// Run is the life of the machine: it returns when the application has ended and nothing
// of its disks is in use, or with why that did not come about.
func Run(say func(string, ...any)) error {
	b, err := os.ReadFile("/" + vm.OrderFile)
	if err != nil {
		return err
	}
	var o vm.Order
	if err := json.Unmarshal(b, &o); err != nil {
		return fmt.Errorf("%s: %w", vm.OrderFile, err)
	}
	for _, m := range []struct{ dir, kind string }{{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev", "devtmpfs"}} {
		if err := unix.Mount(m.kind, m.dir, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	s := &session{order: o, say: say, out: vm.NewWriter(port), children: map[int]chan unix.WaitStatus{}, commands: map[uint32]*command{}}
	err = s.prepare()
	if err == nil {
		err = s.start()
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if werr := s.out.Write(vm.Frame{Kind: vm.Started, Data: []byte(text)}); err != nil || werr != nil {
		return errors.Join(err, werr)
	}
	go func() {
		if err := s.serve(port); err != nil && !errors.Is(err, io.EOF) {
			say("host: %v", err)
		}
	}()
	return s.finish()
}

// loadModules loads what the host packed, in its order. One whose device is not there is
// passed over.
func loadModules() error {
	files, err := filepath.Glob("/modules/*") // sorted
	if err != nil {
		return err
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		flags := 0
		if !strings.HasSuffix(file, ".ko") {
			flags = unix.MODULE_INIT_COMPRESSED_FILE
		}
		err = unix.FinitModule(int(f.Fd()), "", flags)
		_ = f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("module %s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

// patience is how long devices may take to appear.
const patience = 30 * time.Second

// await asks until there is something.
func await(what string, there func() bool) error {
	for end := time.Now().Add(patience); !there(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s does not appear", what)
		}
	}
	return nil
}

// openPort opens the port to the host.
func openPort() (*os.File, error) {
	var device string
	err := await("the port to the host", func() bool {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, n := range names {
			if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == vm.PortName {
				device = "/dev/" + filepath.Base(filepath.Dir(n))
			}
		}
		_, err := os.Stat(device)
		return device != "" && err == nil
	})
	if err != nil {
		return nil, err
	}
	// Blocking, and not by the poller: a port that nobody holds at the other end hangs up.
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: device, Err: err}
	}
	return os.NewFile(uintptr(fd), device), nil
}
