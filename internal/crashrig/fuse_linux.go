package crashrig

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Requests of linux/fuse.h that a file system with one file may get.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opStatfs      = 17
	opRelease     = 18
	opFsync       = 20
	opFlush       = 25
	opInit        = 26
	opInterrupt   = 36
	opDestroy     = 38
	opBatchForget = 42
)

const (
	headerSize  = 40 // of a request
	writeHeader = 40 // of a write's arguments, before its data
	maxWrite    = 128 << 10
	rootNode    = 1
	diskNode    = 2
	diskName    = "disk"
	longTime    = 3600 // seconds for which the kernel may remember attributes
)

// server answers the kernel's requests for one mounted Disk.
type server struct {
	fd   int
	dir  string
	disk *Disk
	done chan struct{}
}

// Serve mounts a file system at dir whose only file, "disk", is the Disk. It returns the
// file's path; stop unmounts.
func Serve(dir string, d *Disk) (path string, stop func() error, err error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("crashrig", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return "", nil, errors.Join(fmt.Errorf("mount fuse at %s: %w", dir, err), unix.Close(fd))
	}
	s := &server{fd: fd, dir: dir, disk: d, done: make(chan struct{})}
	go s.loop()
	return filepath.Join(dir, diskName), s.stop, nil
}

func (s *server) stop() error {
	if err := unix.Unmount(s.dir, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", s.dir, err)
	}
	<-s.done
	return unix.Close(s.fd)
}

func (s *server) loop() {
	defer close(s.done)
	buf := make([]byte, maxWrite+headerSize+writeHeader+4096)
	for {
		n, err := unix.Read(s.fd, buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || n < headerSize {
			return // unmounted
		}
		s.serve(binary.LittleEndian.Uint32(buf[4:]), binary.LittleEndian.Uint64(buf[8:]), binary.LittleEndian.Uint64(buf[16:]), buf[headerSize:n])
	}
}

// serve answers one request.
func (s *server) serve(op uint32, unique, node uint64, args []byte) {
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(args[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(args[at:]) }
	switch op {
	case opForget, opBatchForget, opInterrupt:
		return // these want no answer
	case opInit:
		out := make([]byte, 64)
		binary.LittleEndian.PutUint32(out, 7)
		binary.LittleEndian.PutUint32(out[4:], min(31, u32(4)))
		binary.LittleEndian.PutUint32(out[8:], u32(8))
		binary.LittleEndian.PutUint32(out[20:], maxWrite)
		s.reply(unique, 0, out)
	case opLookup:
		if string(args[:len(args)-1]) != diskName {
			s.reply(unique, unix.ENOENT, nil)
			return
		}
		out := binary.LittleEndian.AppendUint64(nil, diskNode)
		out = binary.LittleEndian.AppendUint64(out, 0)
		out = binary.LittleEndian.AppendUint64(out, longTime)
		out = binary.LittleEndian.AppendUint64(out, longTime)
		s.reply(unique, 0, append(binary.LittleEndian.AppendUint64(out, 0), s.attributes(diskNode)...))
	case opGetattr, opSetattr:
		out := binary.LittleEndian.AppendUint64(nil, longTime)
		s.reply(unique, 0, append(binary.LittleEndian.AppendUint64(out, 0), s.attributes(node)...))
	case opOpen:
		s.reply(unique, 0, make([]byte, 16))
	case opRead:
		b := make([]byte, u32(16))
		s.reply(unique, 0, b[:s.disk.read(b, int64(u64(8)))])
	case opWrite:
		data := args[writeHeader:]
		if uint32(len(data)) != u32(16) || !s.disk.write(data, int64(u64(8))) {
			s.reply(unique, unix.EIO, nil)
			return
		}
		s.reply(unique, 0, binary.LittleEndian.AppendUint64(nil, uint64(len(data))))
	case opFsync:
		s.disk.flush()
		s.reply(unique, 0, nil)
	case opStatfs:
		s.reply(unique, 0, make([]byte, 80))
	case opFlush, opRelease, opDestroy:
		s.reply(unique, 0, nil)
	default:
		s.reply(unique, unix.ENOSYS, nil)
	}
}

// reply sends an answer. One that nobody waits for any more is no error.
func (s *server) reply(unique uint64, code unix.Errno, body []byte) {
	out := make([]byte, 16, 16+len(body))
	binary.LittleEndian.PutUint32(out, uint32(16+len(body)))
	binary.LittleEndian.PutUint32(out[4:], uint32(-int32(code)))
	binary.LittleEndian.PutUint64(out[8:], unique)
	_, _ = unix.Write(s.fd, append(out, body...))
}

// attributes is a struct fuse_attr.
func (s *server) attributes(node uint64) []byte {
	mode, size, links := uint32(unix.S_IFDIR|0o755), uint64(0), uint32(2)
	if node == diskNode {
		mode, size, links = unix.S_IFREG|0o600, uint64(len(s.disk.base)), 1
	}
	out := binary.LittleEndian.AppendUint64(nil, node)
	out = binary.LittleEndian.AppendUint64(out, size)
	out = binary.LittleEndian.AppendUint64(out, (size+sector-1)/sector)
	out = append(out, make([]byte, 3*8+3*4)...) // times
	for _, v := range []uint32{mode, links, 0, 0, 0, 4096, 0} {
		out = binary.LittleEndian.AppendUint32(out, v)
	}
	return out
}

// available reports why the rig cannot run here, or nil.
func available() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	_, err := os.Stat("/dev/fuse")
	return err
}
