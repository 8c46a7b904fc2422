package sdboot

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
)

// pe returns a PE file of size bytes with a command line, in a slot of whole blocks: what
// lies behind it is not its own.
func pe(size int, cmdline string) []byte {
	b := bytes.Repeat([]byte{0xcc}, (size+8191)/4096*4096)
	clear(b[:headerSize])
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	le.PutUint16(b[0x80+6:], 2)    // sections
	le.PutUint16(b[0x80+20:], 240) // optional header
	le.PutUint16(b[0x80+24:], 0x20b)
	table := b[0x80+24+240:]
	copy(table, ".cmdline")
	le.PutUint32(table[8:], uint32(len(cmdline)))
	le.PutUint32(table[16:], 512)
	le.PutUint32(table[20:], 1024)
	copy(b[1024:1536], cmdline)
	copy(table[40:], ".linux")
	le.PutUint32(table[40+16:], uint32(size-headerSize))
	le.PutUint32(table[40+20:], headerSize)
	return b
}

// host is a file system for the loader, and two slots.
type host struct {
	esp   string
	slots [2]string
}

func (h host) source(slot partitions.Slot) (partitions.OpenDevice, error) {
	return partitions.OpenRead(h.slots[slot])
}

// fill puts an image into a slot.
func (h host) fill(t *testing.T, slot partitions.Slot, image []byte) {
	t.Helper()
	if err := os.WriteFile(h.slots[slot], image, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h host) open(t *testing.T) *Loader {
	t.Helper()
	l, err := Open(h.esp, h.source, running.Kernel{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newHost(t *testing.T) host {
	t.Helper()
	dir := t.TempDir()
	h := host{t.TempDir(), [2]string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}}
	h.fill(t, partitions.A, pe(9000, "quiet a"))
	h.fill(t, partitions.B, pe(2<<20+777, "quiet b"))
	f, err := MakeFiles(h.esp)
	if err != nil {
		t.Fatal(err)
	}
	var s bootloader.State
	both := map[partitions.Slot]bootloader.Description{partitions.A: {Version: version(t, "1.0")}, partitions.B: {Version: version(t, "1.1")}}
	if err := Create(f.Entries, f.Record, f.Kernels(h.source), s.Commit(partitions.A), both); err != nil {
		t.Fatal(err)
	}
	return h
}

// arm makes slot b the trial, after its kernel became image.
func (h host) arm(t *testing.T) {
	t.Helper()
	l, ctx := h.open(t), context.Background()
	s, err := l.Load(ctx)
	if err == nil {
		s, err = s.Clear(partitions.B)
	}
	if err == nil {
		err = l.Store(ctx, s)
	}
	if err == nil {
		s, err = s.Arm(partitions.B, 3)
	}
	if err == nil {
		err = l.Store(ctx, s)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (h host) kernel(t *testing.T, slot partitions.Slot) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(h.esp, kernelPath(slot)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheKernelOfASlotIsCopiedExactlyAsLongAsItIs(t *testing.T) {
	h := newHost(t)
	for _, size := range []int{2<<20 + 777, 3<<20 + 1, 5000, 1 << 20, headerSize + 512} {
		image := pe(size, "quiet b")
		h.fill(t, partitions.B, image)
		h.arm(t)
		if got := h.kernel(t, partitions.B); !bytes.Equal(got, image[:size]) {
			t.Errorf("%d bytes: got %d, or others", size, len(got))
		}
	}
	names, err := filepath.Glob(filepath.Join(h.esp, "loader/entries/*"))
	if err != nil || len(names) != 2 || !strings.HasSuffix(names[0], "0-a.conf") || !strings.HasSuffix(names[1], "0-b+3.conf") {
		t.Errorf("entries: %q, %v", names, err)
	}
	b, err := os.ReadFile(names[1])
	if err != nil || !strings.Contains(string(b), " panic=1 quiet b\n") || !strings.HasSuffix(string(b), "\nlinux /twinkeel/b.efi\n") {
		t.Errorf("entry: %q, %v", b, err)
	}
}

func TestAnEntryWithoutItsKernelIsNoneAndTheNextStoreMendsIt(t *testing.T) {
	h, ctx := newHost(t), context.Background()
	h.arm(t)
	armed, err := h.open(t).Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []func(string) error{os.Remove, func(p string) error { return os.Truncate(p, 100) }} {
		if err := spoil(filepath.Join(h.esp, kernelPath(partitions.B))); err != nil {
			t.Fatal(err)
		}
		if s, err := h.open(t).Load(ctx); err != nil || s.Slots[partitions.B].Bootable() {
			t.Errorf("without a kernel: %+v, %v", s.Slots, err)
		}
		if err := h.open(t).Store(ctx, armed); err != nil {
			t.Fatal(err)
		}
		if s, err := h.open(t).Load(ctx); err != nil || s != armed || len(h.kernel(t, partitions.B)) != 2<<20+777 {
			t.Errorf("mended: %+v, %v", s.Slots, err)
		}
	}
}

func TestASlotWithoutAKernelIsNotArmed(t *testing.T) {
	h, ctx := newHost(t), context.Background()
	h.fill(t, partitions.B, make([]byte, 8192))
	before, err := h.open(t).Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	armed, err := before.Arm(partitions.B, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.open(t).Store(ctx, armed); err == nil {
		t.Error("it was armed")
	}
	if got, err := h.open(t).Load(ctx); err != nil || got != before {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAnotherLoadersFilesStay(t *testing.T) {
	h := newHost(t)
	other := filepath.Join(h.esp, "loader/entries/debian-6.1.conf")
	if err := os.WriteFile(other, []byte("linux /x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(h.esp, "loader/loader.conf")
	if err := os.WriteFile(conf, []byte("timeout 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := MakeFiles(h.esp); err != nil {
		t.Fatal(err)
	}
	h.arm(t)
	for path, want := range map[string]string{other: "linux /x\n", conf: "timeout 5\n"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", path, got, err)
		}
	}
}

func TestImagesThatAreNoneAreRefused(t *testing.T) {
	le := binary.LittleEndian
	for name, spoil := range map[string]func([]byte){
		"no magic":           func(b []byte) { b[0] = 0 },
		"header far away":    func(b []byte) { le.PutUint32(b[0x3c:], 1<<31) },
		"no PE":              func(b []byte) { b[0x80] = 0 },
		"no sections":        func(b []byte) { le.PutUint16(b[0x80+6:], 0) },
		"too many":           func(b []byte) { le.PutUint16(b[0x80+6:], 1000) },
		"optional too large": func(b []byte) { le.PutUint16(b[0x80+20:], 0xffff) },
		"beyond the end":     func(b []byte) { le.PutUint32(b[0x80+24+240+40+16:], 1<<20) },
		"wraps around":       func(b []byte) { le.PutUint32(b[0x80+24+240+40+16:], 1<<32-1) },
		"signature outside":  func(b []byte) { le.PutUint32(b[0x80+24+112+36:], 1<<20) },
	} {
		b := pe(9000, "quiet")
		spoil(b)
		if got, err := parseImage(b[:headerSize], int64(len(b))); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	b := pe(9000, "two\nlines")
	img, err := parseImage(b[:headerSize], int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if line, err := img.readCmdline(bytes.NewReader(b)); err == nil {
		t.Errorf("got %q", line)
	}
	le.PutUint32(b[0x80+24+112+32:], 9000) // a signature behind the sections
	le.PutUint32(b[0x80+24+112+36:], 100)
	if img, err = parseImage(b[:headerSize], int64(len(b))); err != nil || img.size != 9100 {
		t.Errorf("signed: got %d bytes, %v", img.size, err)
	}
}

func FuzzImage(f *testing.F) {
	f.Add(pe(9000, "quiet"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerSize {
			return
		}
		img, err := parseImage(b[:headerSize], int64(len(b)))
		if err != nil {
			return
		}
		if img.size > int64(len(b)) {
			t.Fatalf("%d bytes of %d", img.size, len(b))
		}
		if _, err := img.readCmdline(bytes.NewReader(b)); err != nil && strings.Contains(err.Error(), "EOF") {
			t.Fatal(err)
		}
	})
}
