package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/boot/devmapper"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// The name of the verity device of the running root.
const rootDevice = "twinkeel-root"

const (
	sysroot   = "/sysroot"       // where the root is mounted until it is /
	recordDir = "/mnt/record"    // where the boot record is, until then
	dataDir   = "/mnt/data"      // the data partition
	memoryDir = "/mnt/memory"    // stands in for it
	diskLimit = 20 * time.Second // for a disk to appear
	pause     = 5 * time.Minute  // before the same is tried again, when there is nothing else
)

// Stage is the first stage: PID 1 of the initramfs.
type Stage struct {
	Say func(format string, args ...any) // to the console

	order   Order
	cmdline string
	loader  bootloader.BootLoader // nil: there is no record to be had
	data    string                // where the data partition is mounted, or ""
	written bool                  // it can be written
}

// Run starts what the loader asked for. It returns only to end the machine: the error
// says why the slot could not be started, and the slot has been left if it could be.
func (s *Stage) Run(ctx context.Context) error {
	err := s.prepare()
	if err == nil {
		err = s.start(ctx)
	}
	if ctx.Err() != nil {
		return err
	}
	s.Say("slot %s, version %s, cannot be started: %v", s.order.Slot, s.order.Version, err)
	s.giveUp(ctx)
	return err
}

// prepare mounts the kernel's file systems, where whoever was PID 1 before did not, and
// loads the modules.
func (s *Stage) prepare() error {
	for _, m := range [][3]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run", "mode=755"}} {
		if err := mkdirs(m[1]); err != nil {
			return err
		}
		if mounted(m[1]) {
			continue
		}
		if err := unix.Mount(m[0], m[1], m[0], unix.MS_NOSUID, m[2]); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	s.cmdline = string(line)
	// What a kernel saved in its panic is looked for there; not every kernel has it.
	_ = unix.Mount("pstore", "/sys/fs/pstore", "pstore", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return loadModules(ModulesDir, s.cmdline, s.Say)
}

// mounted reports whether something is mounted on a directory.
func mounted(dir string) bool {
	var here, above unix.Stat_t
	return unix.Stat(dir, &here) == nil && unix.Stat(filepath.Dir(dir), &above) == nil && here.Dev != above.Dev
}

// giveUp leaves the slot for the other one. In a trial a reboot alone does, because the
// loader counts; without a way out it waits, for hardware that comes late and for people.
func (s *Stage) giveUp(ctx context.Context) {
	if s.written {
		k := keeper{dir: filepath.Join(dataDir, layersDir), order: s.order, say: s.Say, one: make(chan struct{}, 1)}
		k.keep(ctx)
	}
	err := errors.New("there is no boot record")
	if s.loader != nil {
		err = leave(ctx, s.loader, s.order.Slot)
	}
	switch {
	case err == nil:
		s.Say("rebooting into slot %s", s.order.Slot.Other())
	case s.order.Trial:
		s.Say("rebooting: this was a trial, and the loader counts it (%v)", err)
	default:
		s.Say("no other slot to go to (%v); trying again in %s", err, pause)
		time.Sleep(pause)
	}
}

// start does the work, and returns only if that failed.
func (s *Stage) start(ctx context.Context) (err error) {
	s.order, err = ParseOrder(s.cmdline)
	s.openRecord()
	if err != nil {
		return err
	}
	if err := mark(s.order); err != nil {
		s.Say("mark in the kernel's log: %v", err)
	}
	s.openData()
	s.takePanics()
	root, err := partition(s.order.RootPart)
	if err != nil {
		return err
	}
	if err := s.openRoot(root); err != nil {
		return err
	}
	if err := s.furnish(); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(sysroot, s.order.Init)); err != nil {
		return fmt.Errorf("init of the root: %w", err)
	}
	return s.handOver()
}

// partition finds a partition, and waits a while for its disk.
func partition(spec string) (string, error) {
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		path, err := partitions.Resolve(spec)
		if err == nil || time.Since(began) > diskLimit {
			return path, err
		}
	}
}

// openRecord mounts the boot record, if it is told where that is. Without it the slot can
// be started all the same.
func (s *Stage) openRecord() {
	if s.order.Record == None {
		return
	}
	dev, err := partition(s.order.Record)
	if err == nil {
		err = mountAny(dev, recordDir, unix.MS_NOATIME|unix.MS_NOSUID|unix.MS_NODEV, map[string]string{"vfat": "errors=continue"})
	}
	if err == nil {
		s.loader, err = openRecord(recordDir)
	}
	if err != nil {
		s.Say("boot record: %v", err)
	}
}

// openData mounts the data partition, read-only if there is no other way. It is never
// made anew.
func (s *Stage) openData() {
	if s.order.Data == None {
		return
	}
	dev, err := partition(s.order.Data)
	if err != nil {
		s.Say("data partition: %v", err)
		return
	}
	err = mountAny(dev, dataDir, unix.MS_NOATIME|unix.MS_NOSUID|unix.MS_NODEV, nil)
	if err != nil {
		rerr := mountAny(dev, dataDir, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, map[string]string{"ext4": "noload", "xfs": "norecovery"})
		if rerr != nil {
			s.Say("data partition: %v", errors.Join(err, rerr))
			return
		}
	} else {
		// A file system that found an error earlier, or is marked as one that is never to be
		// written, lets itself be mounted all the same.
		err = canWrite(filepath.Join(dataDir, layersDir))
	}
	s.data, s.written = dataDir, err == nil
	if err != nil {
		s.Say("data partition: can only be read: %v", err)
	}
}

// canWrite makes a directory, if need be, and a file in it.
func canWrite(dir string) error {
	if err := mkdirs(dir); err != nil {
		return err
	}
	probe := filepath.Join(dir, ".probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return err
	}
	return os.Remove(probe)
}

// openRoot makes the verity device and mounts it. If the boots before this one never came
// through, it reads all of it: what loops because of a damaged block ends here.
func (s *Stage) openRoot(device string) error {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return fmt.Errorf("root %s: %w", device, err)
	}
	params, sectors, err := s.order.table(fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err != nil {
		return err
	}
	c, err := devmapper.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	path, err := c.Verity(rootDevice, params, sectors)
	if err != nil {
		return err
	}
	if err = mountAny(path, sysroot, unix.MS_RDONLY|unix.MS_NODEV, map[string]string{"ext4": "noload"}); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	// The guard ends the count, for which it needs the data partition within the root.
	if !s.written || s.order.Trial || len(existing(filepath.Join(sysroot, "data"))) == 0 {
		return nil
	}
	n, err := countBoot(unsettledFile(s.data, s.order))
	if err != nil {
		s.Say("count of boots: %v", err)
	}
	if n <= maxUnsettled {
		return nil
	}
	s.Say("the last %d boots of this slot ended early: reading its root", n-1)
	if err := readAll(path); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	return nil
}

// maxUnsettled is how many boots of a committed slot may end before they settled, until
// the slot is read whole.
const maxUnsettled = 2

// unsettledFile is the file that counts them.
func unsettledFile(data string, o Order) string {
	return filepath.Join(data, layersDir, "unsettled-"+o.id())
}

// countBoot adds one to the count in a file, and returns it. The count is the file's
// length; a new one begins at 1.
func countBoot(path string) (int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = f.WriteString(".")
	st, serr := f.Stat()
	if err := errors.Join(err, serr, f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	return st.Size(), syncFS(filepath.Dir(path))
}

// readAll reads a device to its end.
func readAll(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return err
}
