package partitions

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/needs"
)

// slotFile makes a regular file of size bytes in dir.
func slotFile(t *testing.T, dir string, size int64) string {
	t.Helper()
	path := filepath.Join(dir, "slot.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

// needRoot skips a test that attaches loop devices, but not in CI, which has them.
func needRoot(t *testing.T, tools ...string) {
	t.Helper()
	needs.That(t, os.Geteuid() == 0, "root")
	_, err := os.Stat("/dev/loop-control")
	needs.That(t, err == nil, "loop devices")
	needs.Tools(t, tools...)
}

// run runs a tool and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// loop attaches file to a loop device.
func loop(t *testing.T, file string) string {
	t.Helper()
	dev := run(t, "losetup", "--find", "--show", "--partscan", file)
	t.Cleanup(func() { run(t, "losetup", "--detach", dev) })
	return dev
}

// places are where slots are tried: a file on a disk's file system, which can be read
// past the page cache; a file in memory, which may not; and a loop device.
func places(t *testing.T, test func(t *testing.T, path string, size int64)) {
	const size = 3 << 20
	t.Run("file", func(t *testing.T) { test(t, slotFile(t, t.TempDir(), size+1000), size) })
	t.Run("memory", func(t *testing.T) {
		dir, err := os.MkdirTemp("/dev/shm", "partitions")
		needs.That(t, err == nil, fmt.Sprintf("/dev/shm: %v", err))
		t.Cleanup(func() { os.RemoveAll(dir) })
		test(t, slotFile(t, dir, size), size)
	})
	t.Run("loop", func(t *testing.T) {
		needRoot(t, "losetup")
		test(t, loop(t, slotFile(t, t.TempDir(), size)), size)
	})
}

func pattern(n int, seed byte) []byte {
	b := AlignedBuffer(n)
	for i := range b {
		b[i] = byte(i>>8)*7 + byte(i) + seed
	}
	return b
}

func closing(t *testing.T, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsWrittenAndFlushedIsReadBack(t *testing.T) {
	places(t, func(t *testing.T, path string, size int64) {
		w, err := OpenWrite(path)
		if err != nil {
			t.Fatal(err)
		}
		if w.Size() != size {
			t.Fatalf("size: got %d, want %d", w.Size(), size)
		}
		whole := pattern(int(size), 1)
		odd := append(make([]byte, 1, size+1), whole...)[1:] // not aligned
		if isAligned(odd) {
			t.Fatal("the buffer is aligned by accident")
		}
		if n, err := w.WriteAt(odd, 0); n != len(odd) || err != nil {
			t.Fatalf("unaligned memory: wrote %d, %v", n, err)
		}
		block := pattern(8192, 9)
		if n, err := w.WriteAt(block, 4096); n != 8192 || err != nil {
			t.Fatalf("aligned memory: wrote %d, %v", n, err)
		}
		copy(whole[4096:], block)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		got := AlignedBuffer(int(size))
		if _, err := w.ReadAt(got, 0); err != nil || !bytes.Equal(got, whole) {
			t.Fatalf("read back by the writer: %v", err)
		}
		closing(t, w)

		r, err := OpenRead(path)
		if err != nil {
			t.Fatal(err)
		}
		defer closing(t, r)
		clear(odd)
		if _, err := r.ReadAt(odd, 0); err != nil || !bytes.Equal(odd, whole) {
			t.Fatalf("read into unaligned memory: %v", err)
		}
		clear(got)
		if _, err := r.ReadAt(got[:4096], 8192); err != nil || !bytes.Equal(got[:4096], whole[8192:12288]) {
			t.Fatalf("read one block: %v", err)
		}
		if _, err := r.File().ReadAt(got, 0); err != nil || !bytes.Equal(got, whole) {
			t.Fatalf("read through the ordinary file: %v", err)
		}
		if _, err := r.WriteAt(block, 0); err == nil {
			t.Error("a device opened for reading was written")
		}
		if err := r.Flush(); err == nil {
			t.Error("a device opened for reading was flushed")
		}
	})
}

func TestAccessOutsideOfWholeBlocksWithinTheDeviceMovesNoByte(t *testing.T) {
	places(t, func(t *testing.T, path string, size int64) {
		d, err := OpenWrite(path)
		if err != nil {
			t.Fatal(err)
		}
		defer closing(t, d)
		for _, a := range []struct {
			n   int
			off int64
		}{{4096, -4096}, {4096, 1}, {4096, 512}, {100, 0}, {4096, size}, {8192, size - 4096}, {4096, 1<<63 - 4096}, {0, size + 4096}} {
			p := pattern(a.n, 3)
			if n, err := d.WriteAt(p, a.off); n != 0 || err == nil {
				t.Errorf("write %d bytes at %d: got %d, %v", a.n, a.off, n, err)
			}
			if n, err := d.ReadAt(p, a.off); n != 0 || err == nil {
				t.Errorf("read %d bytes at %d: got %d, %v", a.n, a.off, n, err)
			}
		}
		got := AlignedBuffer(int(size))
		if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, make([]byte, size)) {
			t.Errorf("the device changed: %v", err)
		}
	})
}

func TestOnlyOneWriterAtATime(t *testing.T) {
	places(t, func(t *testing.T, path string, _ int64) {
		w, err := OpenWrite(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenWrite(path); !errors.Is(err, ErrInUse) {
			t.Errorf("second writer: got %v, want ErrInUse", err)
		}
		r, err := OpenRead(path)
		if err != nil {
			t.Errorf("a reader beside the writer: %v", err)
		} else {
			closing(t, r)
		}
		closing(t, w)
		again, err := OpenWrite(path)
		if err != nil {
			t.Fatalf("after the first writer is gone: %v", err)
		}
		closing(t, again)
	})
}

func TestAMountedDeviceIsNotWritten(t *testing.T) {
	needRoot(t, "losetup", "mkfs.ext4", "mount", "umount")
	file := slotFile(t, t.TempDir(), 8<<20)
	dev := loop(t, file)
	run(t, "mkfs.ext4", "-q", dev)
	mnt := t.TempDir()
	run(t, "mount", "-o", "ro", dev, mnt)
	defer run(t, "umount", mnt)
	if _, err := OpenWrite(dev); !errors.Is(err, ErrInUse) {
		t.Errorf("the device: got %v, want ErrInUse", err)
	}
	if _, err := OpenWrite(file); !errors.Is(err, ErrInUse) {
		t.Errorf("the file below the loop device: got %v, want ErrInUse", err)
	}
	r, err := OpenRead(dev)
	if err != nil {
		t.Fatalf("the running slot has to be readable: %v", err)
	}
	closing(t, r)
}

// The medium is read, not what memory remembers of it: a bit that changed below is seen.
func TestReadsSeeTheMediumAndNotThePageCache(t *testing.T) {
	needRoot(t, "losetup")
	file := slotFile(t, t.TempDir(), 1<<20)
	dev := loop(t, file)
	r, err := OpenRead(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, r)
	b := AlignedBuffer(4096)
	if _, err := r.File().ReadAt(b, 0); err != nil { // fills the page cache of the device
		t.Fatal(err)
	}
	below, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, below)
	if _, err := below.WriteAt([]byte("changed"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.File().ReadAt(b, 0); err != nil || b[0] != 0 {
		t.Fatalf("the page cache does not hide the change (%q, %v): this test proves nothing", b[:7], err)
	}
	if _, err := r.ReadAt(b, 0); err != nil || string(b[:7]) != "changed" {
		t.Errorf("got %q, %v", b[:7], err)
	}
}

func TestWritesReachTheMediumWithoutFillingThePageCache(t *testing.T) {
	path := slotFile(t, t.TempDir(), 4<<20)
	w, err := OpenWrite(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, w)
	needs.That(t, w.(*device).direct != nil, "TMPDIR on a file system with direct access")
	if _, err := w.WriteAt(pattern(4<<20, 5), 0); err != nil {
		t.Fatal(err)
	}
	if n := resident(t, path, 4<<20); n != 0 {
		t.Errorf("%d pages are in the page cache", n)
	}
}

// resident counts the pages of a file that are in the page cache.
func resident(t *testing.T, path string, size int) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(m); err != nil {
			t.Error(err)
		}
	}()
	vec := make([]byte, size/os.Getpagesize())
	if _, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&vec[0]))); errno != 0 {
		t.Fatal(errno)
	}
	n := 0
	for _, v := range vec {
		n += int(v & 1)
	}
	return n
}

func TestOnlyBlockDevicesAndRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, dir, "/dev/null"} {
		if _, err := OpenRead(path); err == nil {
			t.Errorf("read %s: was opened", path)
		}
		if _, err := OpenWrite(path); err == nil {
			t.Errorf("write %s: was opened", path)
		}
	}
	if _, err := OpenWrite(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: got %v, want fs.ErrNotExist", err)
	}
}

func TestAFileThatShrankIsAnErrorAndNotAnEnd(t *testing.T) {
	path := slotFile(t, t.TempDir(), 8192)
	r, err := OpenRead(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, r)
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if n, err := r.ReadAt(AlignedBuffer(8192), 0); err == nil || n > 4096 || strings.HasSuffix(err.Error(), ": EOF") {
		t.Errorf("got %d, %v", n, err)
	}
}

// Partitions of a loop device are found by label and UUID in their table, by this
// package and by udev alike.
func TestPartitionsOfALoopDeviceAreFoundByLabelAndUUID(t *testing.T) {
	needRoot(t, "losetup", "sgdisk", "partx")
	file := slotFile(t, t.TempDir(), 4<<20)
	run(t, "sgdisk", "-n", "1:0:+1M", "-c", "1:twinkeel-test-root-a", "-n", "2:0:+1M", "-c", "2:twinkeel-test-root-b",
		"-u", "2:5A5A5A5A-0001-0002-0003-0000000000B2", file)
	dev := loop(t, file)
	run(t, "partx", "--update", dev) // some kernels do not read GUID partition tables themselves
	for spec, want := range map[string]string{
		"PARTLABEL=twinkeel-test-root-a":                dev + "p1",
		"PARTLABEL=twinkeel-test-root-b":                dev + "p2",
		"PARTUUID=5a5a5a5a-0001-0002-0003-0000000000b2": dev + "p2",
	} {
		if got, err := Resolve(spec); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %s", spec, got, err, want)
		}
		// The same without udev.
		key, value, err := splitSpec(spec)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := system.scan(spec, key, value); err != nil || got != want {
			t.Errorf("%s: read from the table: got %q, %v; want %s", spec, got, err, want)
		}
	}
	w, err := OpenWrite(dev + "p2")
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, w)
	if w.Size() != 1<<20 {
		t.Errorf("size: got %d, want 1 MiB", w.Size())
	}
}
