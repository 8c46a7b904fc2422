package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

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

// Disk is an image file that the kernel sees as a disk with partitions.
type Disk struct {
	loop  *os.File
	parts map[string]part
}

type part struct {
	device string
	guid   string
}

// CreateDisk makes the sparse file path with a GPT of parts and attaches it to a loop
// device, with a device for each partition even if the kernel reads no such tables.
// They go away with Close, or when the process and all who opened them end. It needs
// root, sgdisk and partx.
func CreateDisk(ctx context.Context, path string, parts []Partition) (*Disk, error) {
	d := &Disk{parts: make(map[string]part)}
	args := []string{"--clear"}
	at := int64(Alignment)
	for i, p := range parts {
		if p.Size <= 0 || p.Size%Alignment != 0 {
			return nil, fmt.Errorf("partition %s: got %d bytes, want a multiple of %d", p.Name, p.Size, Alignment)
		}
		guid, err := newGUID()
		if err != nil {
			return nil, fmt.Errorf("partition %s: %w", p.Name, err)
		}
		n := strconv.Itoa(i + 1)
		args = append(args, fmt.Sprintf("--new=%s:%d:%d", n, at/sectorSize, (at+p.Size)/sectorSize-1),
			"--change-name="+n+":"+p.Name, "--partition-guid="+n+":"+guid)
		d.parts[p.Name] = part{"p" + n, guid}
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
	if err := run(ctx, "sgdisk", append(args, path)...); err != nil {
		return nil, err
	}
	if d.loop, err = attach(f); err != nil {
		return nil, err
	}
	if err := run(ctx, "partx", "--update", d.loop.Name()); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	for name, p := range d.parts {
		p.device = d.loop.Name() + p.device
		if _, err := os.Stat(p.device); err != nil {
			return nil, errors.Join(fmt.Errorf("partition %s: %w", name, err), d.Close())
		}
		d.parts[name] = p
	}
	return d, nil
}

func run(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, args[len(args)-1], err, out)
	}
	return nil
}

// newGUID returns a random GUID: no partition of this machine has it already.
func newGUID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	return strings.TrimSpace(string(b)), err
}

// Device returns the path of a partition's block device, or "" if there is no such
// partition.
func (d *Disk) Device(name string) string { return d.parts[name].device }

// Spec names a partition as a host's configuration does. Its label would do on the
// machine itself; here, a disk of whoever runs this may have the same.
func (d *Disk) Spec(name string) string { return "PARTUUID=" + d.parts[name].guid }

// Close detaches the disk; while a partition is still mounted it stays.
func (d *Disk) Close() error {
	// Without the table's parser the kernel does not drop them by itself.
	err := run(context.Background(), "partx", "--delete", d.loop.Name())
	return errors.Join(err, d.loop.Close())
}

// attach makes f a block device, which lasts until its last user closes it.
func attach(f *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_PARTSCAN}}
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
