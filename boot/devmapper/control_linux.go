package devmapper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Control is the kernel's door to device-mapper.
type Control struct{ f *os.File }

// controlMinor is the number of the door, fixed since Linux 2.6.36 ("/dev/mapper/control").
const controlMinor = 10<<8 | 236

// Open opens the door, for which /dev has to be mounted, as devtmpfs or otherwise.
func Open() (*Control, error) {
	const path = "/dev/mapper/control"
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll("/dev/mapper", 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, controlMinor); err != nil {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("device-mapper: %w", err)
	}
	return &Control{f}, nil
}

// Close closes the door. Devices stay.
func (c *Control) Close() error { return c.f.Close() }

// The commands, as numbers of their ioctl.
const (
	cmdCreate = 3
	cmdRemove = 4
	cmdResume = 6 // DM_DEV_SUSPEND without the flag to suspend
	cmdLoad   = 9
	cmdStatus = 12
)

const (
	headerSize  = 312 // struct dm_ioctl
	targetSize  = 40  // struct dm_target_spec
	messageSize = 4096
	nameOffset  = 48
	nameSize    = 128
	readOnly    = 1 << 0
)

// Verity makes the read-only device name of one verity target, and returns its path. A
// device of that name from an earlier try is removed first.
func (c *Control) Verity(name, params string, sectors uint64) (path string, err error) {
	// Most often there is none.
	_, _ = c.call(cmdRemove, message(name, 0, nil))
	m, err := c.call(cmdCreate, message(name, 0, nil))
	if err != nil {
		return "", fmt.Errorf("make device %s: %w", name, err)
	}
	number := binary.LittleEndian.Uint64(m[40:])
	defer func() {
		if err != nil {
			_, rerr := c.call(cmdRemove, message(name, 0, nil))
			err = errors.Join(err, rerr)
		}
	}()
	t, err := target("verity", params, sectors)
	if err != nil {
		return "", err
	}
	if _, err := c.call(cmdLoad, message(name, readOnly, t)); err != nil {
		return "", fmt.Errorf("device %s: table %q: %w", name, params, err)
	}
	if _, err := c.call(cmdResume, message(name, 0, nil)); err != nil {
		return "", fmt.Errorf("start device %s: %w", name, err)
	}
	path = fmt.Sprintf("/dev/dm-%d", unix.Minor(number))
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("device %s: %w", name, err)
	}
	return path, nil
}

// Damaged reports whether the verity device name has met a block that was not what it
// should be, since it was made.
func (c *Control) Damaged(name string) (bool, error) {
	m, err := c.call(cmdStatus, message(name, 0, nil))
	if err != nil {
		return false, fmt.Errorf("status of device %s: %w", name, err)
	}
	return damaged(m)
}

// damaged reads the answer to cmdStatus: one target, whose status is V or C.
func damaged(m []byte) (bool, error) {
	start := int(binary.LittleEndian.Uint32(m[16:]))
	if n := binary.LittleEndian.Uint32(m[20:]); n != 1 || start > len(m)-targetSize {
		return false, fmt.Errorf("device-mapper's answer: got %d targets, want one", n)
	}
	text, _, _ := bytes.Cut(m[start+targetSize:], []byte{0})
	switch string(text) {
	case "V":
		return false, nil
	case "C":
		return true, nil
	}
	return false, fmt.Errorf("device-mapper's answer: got %.20q, want V or C", text)
}

// message is a call's argument: header, name, and what follows.
func message(name string, flags uint32, data []byte) []byte {
	le, m := binary.LittleEndian, make([]byte, messageSize)
	for i, v := range []uint32{4, 0, 0, messageSize, headerSize} {
		le.PutUint32(m[4*i:], v)
	}
	if data != nil {
		le.PutUint32(m[20:], 1)
	}
	le.PutUint32(m[28:], flags)
	copy(m[nameOffset:nameOffset+nameSize-1], name)
	copy(m[headerSize:], data)
	return m
}

// target is a table of one target that begins at sector 0.
func target(kind, params string, sectors uint64) ([]byte, error) {
	if len(params) >= messageSize-headerSize-targetSize {
		return nil, fmt.Errorf("device table: got %d characters", len(params))
	}
	b := make([]byte, targetSize, targetSize+len(params)+8)
	binary.LittleEndian.PutUint64(b[8:], sectors)
	copy(b[24:40], kind)
	b = append(append(b, params...), 0)
	b = append(b, make([]byte, -len(b)&7)...)
	binary.LittleEndian.PutUint32(b[20:], uint32(len(b)))
	return b, nil
}

// call makes one call; the answer is in the same memory as the question.
func (c *Control) call(cmd uintptr, m []byte) ([]byte, error) {
	const readWrite, kind = 3 << 30, 0xfd << 8
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, c.f.Fd(), readWrite|headerSize<<16|kind|cmd, uintptr(unsafe.Pointer(&m[0])))
	runtime.KeepAlive(m)
	if errno != 0 {
		return nil, errno
	}
	return m, nil
}
