package vm

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
	"github.com/twinkeel/twinkeel/partitions/bootloader/sdboot"
)

// An update through systemd-boot is recorded as Linux and the firmware wrote it to the
// disk: image copied, trial armed, counter taken, committed. Of every prefix of that, and
// of prefixes whose unflushed writes were lost or torn, a reader of FAT that is neither
// Linux nor the firmware (mtools) looks what is left.
func TestEveryCutOfAnUpdateBySystemdBootLeavesOneThatBoots(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	disk := r.sdbootDisk(t, dir)
	before := filepath.Join(dir, "before.img")
	if err := Clone(disk, before); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "writes")
	d := power(t, Config{Disk: disk, Vars: filepath.Join(dir, "vars.fd"), WriteLog: log})
	d.booted("slot=a release=one trial=false fallback=false", standingA)
	d.order("arm b 3", "reboot")
	d.booted("slot=b release=two trial=true fallback=false", "a=1/0/true b=2/2/false")
	d.order("commit", "off")
	effects, err := ReadLog(log)
	if err != nil {
		t.Fatal(err)
	}
	esp, kernel := espOf(t, before, filepath.Join(dir, "esp.img"))
	cuts := &fatCuts{T: t, dir: filepath.Join(dir, "cut"), kernel: kernel, seen: map[string]int{}}
	random := rand.New(rand.NewPCG(1, 2))
	safe, disks := 0, 0
	for n, e := range effects {
		if n > 0 && effects[n-1].Flush {
			if err := Cut(esp, effects[safe:n], nil); err != nil {
				t.Fatal(err)
			}
			esp.undo, safe = nil, n
		}
		for try := range 4 {
			how := random
			if try == 0 {
				how = nil
			}
			if !esp.holds(e) || len(e.Data) > 64<<10 && try > 0 {
				continue // not of interest, or the middle of a kernel
			}
			if err := Cut(esp, effects[safe:n+1], how); err != nil {
				t.Fatal(err)
			}
			cuts.check(fmt.Sprintf("cut %d of %d, %d", n, len(effects), try), esp.File.Name())
			disks++
			esp.revert(t)
		}
	}
	t.Logf("%d writes, %d disks, boot %v; %d files could not be read", len(effects), disks, cuts.seen, cuts.unreadable)
	for _, want := range []string{"a", "b on trial", "b"} {
		if cuts.seen[want] == 0 {
			t.Errorf("no cut left %s first: this test does not test what it says", want)
		}
	}
}

// espImage is the ESP of a disk in a file of its own.
type espImage struct {
	*os.File
	undo []Effect
}

const espBegin, espSize, slotSize = mib, 80 * mib, 32 * mib

// espOf copies the ESP out of a disk of sdbootDisk, and returns what slot b holds.
func espOf(t *testing.T, disk, path string) (*espImage, []byte) {
	t.Helper()
	b, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[espBegin:][:espSize], 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &espImage{File: f}, b[espBegin+espSize+slotSize:][:slotSize]
}

// holds reports whether an effect changes the ESP.
func (i *espImage) holds(e Effect) bool {
	return len(e.Data) > 0 && e.At >= espBegin && e.At+int64(len(e.Data)) <= espBegin+espSize
}

// WriteAt writes what was meant for the disk, as far as it is the ESP.
func (i *espImage) WriteAt(p []byte, at int64) (int, error) {
	if len(p) == 0 || !i.holds(Effect{At: at, Data: p}) {
		return len(p), nil
	}
	was := make([]byte, len(p))
	if _, err := i.File.ReadAt(was, at-espBegin); err != nil {
		return 0, err
	}
	i.undo = append(i.undo, Effect{At: at - espBegin, Data: was})
	return i.File.WriteAt(p, at-espBegin)
}

// revert takes back all writes since undo was empty.
func (i *espImage) revert(t *testing.T) {
	t.Helper()
	for n := len(i.undo) - 1; n >= 0; n-- {
		if _, err := i.File.WriteAt(i.undo[n].Data, i.undo[n].At); err != nil {
			t.Fatal(err)
		}
	}
	i.undo = nil
}

// fatCuts looks at file systems that power cuts left.
type fatCuts struct {
	*testing.T
	dir    string
	kernel []byte // what slot b holds, and zeros behind it
	seen   map[string]int

	unreadable int // files
}

// check reads what is in the file system, as far as it can be read, and checks that what
// boots first is whole.
func (c *fatCuts) check(what, image string) {
	c.Helper()
	if err := os.RemoveAll(c.dir); err != nil {
		c.Fatal(err)
	}
	for _, d := range []string{"loader/entries", "twinkeel"} {
		if err := os.MkdirAll(filepath.Join(c.dir, d), 0o755); err != nil {
			c.Fatal(err)
		}
	}
	get := func(from, to string) error {
		return run("mcopy", "-n", "-o", "-i", image, "::"+from, filepath.Join(c.dir, to))
	}
	names, err := exec.Command("mdir", "-b", "-i", image, "::/loader/entries").Output()
	if err != nil {
		c.Fatalf("%s: mdir: %v", what, err)
	}
	for path := range strings.Lines(string(names)) {
		// A file that is being made may have no cluster yet. The loader passes over what it
		// cannot read, too.
		name := filepath.Base(strings.TrimSpace(path))
		if get("/loader/entries/"+name, "loader/entries/"+name) != nil {
			c.unreadable++
		}
	}
	for _, name := range []string{"record", "a.efi"} {
		if err := get("/twinkeel/"+name, "twinkeel/"+name); err != nil {
			c.Fatalf("%s: %v", what, err)
		}
	}
	_ = get("/twinkeel/b.efi", "twinkeel/b.efi") // it may not be there yet
	l, err := sdboot.Open(c.dir, nil, running.Kernel{})
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
	s, err := l.Load(context.Background())
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
	next, ok := s.Next()
	if !ok || !s.Slots[partitions.A].Successful || s.Slots[partitions.A].Priority == 0 {
		c.Fatalf("%s: %+v", what, s.Slots)
	}
	if next == partitions.A {
		c.seen["a"]++
		return
	}
	if s.Slots[next].Successful {
		c.seen["b"]++
	} else {
		c.seen["b on trial"]++
	}
	b, err := os.ReadFile(filepath.Join(c.dir, "twinkeel/b.efi"))
	// objcopy leaves symbols behind the sections, which are not copied.
	if err != nil || !bytes.HasPrefix(c.kernel, b) || len(bytes.TrimRight(c.kernel, "\x00")) > len(b)+64<<10 {
		c.Fatalf("%s: slot b boots a kernel of %d bytes that is not its own, %v", what, len(b), err)
	}
	files, err := filepath.Glob(filepath.Join(c.dir, "loader/entries/twinkeel-*-b*.conf"))
	if err != nil {
		c.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			c.Fatal(err)
		}
		whole := bytes.HasPrefix(b, []byte("title ")) && strings.Contains(string(b), " panic=1 console=ttyS0 quiet no_timer_check\n")
		if bytes.Contains(b, []byte("linux /")) && !whole {
			c.Fatalf("%s: entry %s is torn: %q", what, filepath.Base(name), b)
		}
	}
}

// bytesAt is a disk in memory.
type bytesAt []byte

func (d bytesAt) WriteAt(p []byte, at int64) (int, error) { return copy(d[at:], p), nil }

func TestATornWriteEndsWithASectorOfItsDisk(t *testing.T) {
	for _, sector := range []int{0, 512, 4096} {
		torn := 0
		for seed := range uint64(200) {
			disk := make(bytesAt, 32<<10)
			e := Effect{Data: bytes.Repeat([]byte{1}, len(disk)), Sector: sector}
			if err := Cut(disk, []Effect{e}, rand.New(rand.NewPCG(seed, 1))); err != nil {
				t.Fatal(err)
			}
			n := bytes.Count(disk, []byte{1})
			if n%max(sector, 512) != 0 {
				t.Fatalf("sectors of %d: got a write of %d bytes", sector, n)
			}
			if n > 0 && n < len(disk) {
				torn++
			}
		}
		if torn == 0 {
			t.Errorf("sectors of %d: no write of 200 is torn", sector)
		}
	}
}
