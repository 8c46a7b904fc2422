package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// Partition is one partition of a disk to be made.
type Partition struct {
	Name string // the GPT label
	Size int64  // bytes, a multiple of Alignment
}

// Alignment of partitions in bytes; the first one begins there.
const Alignment = 1 << 20

const sectorSize = 512

// Disk is an image file whose partitions are loop devices.
type Disk struct {
	loops map[string]*os.File
}

// CreateDisk makes the sparse file path with a GPT of parts and attaches each of them
// to a loop device; the kernel need not know partition tables. The devices go away
// with Close, or when the process and all who opened them end. It needs root and sgdisk.
func CreateDisk(ctx context.Context, path string, parts []Partition) (*Disk, error) {
	args := []string{"--clear"}
	at := int64(Alignment)
	for i, p := range parts {
		if p.Size <= 0 || p.Size%Alignment != 0 {
			return nil, fmt.Errorf("partition %s: got %d bytes, want a multiple of %d", p.Name, p.Size, Alignment)
		}
		n := strconv.Itoa(i + 1)
		args = append(args, fmt.Sprintf("--new=%s:%d:%d", n, at/sectorSize, (at+p.Size)/sectorSize-1), "--change-name="+n+":"+p.Name)
		at += p.Size
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("old disk: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	defer f.Close()
	if err := f.Truncate(at + Alignment); err != nil { // the second table follows the last partition
		return nil, fmt.Errorf("disk: %w", err)
	}
	if out, err := exec.CommandContext(ctx, "sgdisk", append(args, path)...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("partition %s: %w\n%s", path, err, out)
	}
	d := &Disk{loops: make(map[string]*os.File)}
	at = Alignment
	for _, p := range parts {
		loop, err := attach(f, at, p.Size)
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("partition %s: %w", p.Name, err)
		}
		d.loops[p.Name] = loop
		at += p.Size
	}
	return d, nil
}

// Device returns the path of a partition's block device, or "" if there is no such
// partition.
func (d *Disk) Device(name string) string {
	f, ok := d.loops[name]
	if !ok {
		return ""
	}
	return f.Name()
}

// Write copies the file image to the front of a partition, as a factory does.
func (d *Disk) Write(name, image string) error {
	src, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("partition %s: %w", name, err)
	}
	defer src.Close()
	dst, err := os.OpenFile(d.Device(name), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("partition %s: %w", name, err)
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}

// Close detaches the devices; one that is still mounted goes when it is unmounted.
func (d *Disk) Close() error {
	var errs []error
	for name, f := range d.loops {
		errs = append(errs, f.Close())
		delete(d.loops, name)
	}
	return errors.Join(errs...)
}

// attach makes the range of f a block device, which lasts until its last user closes it.
func attach(f *os.File, offset, size int64) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{
		Offset: uint64(offset), Sizelimit: uint64(size), Flags: unix.LO_FLAGS_AUTOCLEAR}}
	// Between the answer and its use somebody else may take the device.
	for range 16 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("loop device: none free: %w", err)
		}
		loop, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("loop device: %w", err)
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("attach %s: %w", loop.Name(), err)
		}
	}
	return nil, errors.New("loop device: 16 of them were taken away before they could be used")
}
