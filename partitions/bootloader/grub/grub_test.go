package grub

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/bootloadertest"
	"github.com/twinkeel/twinkeel/release"
)

func blocks(d *bootloadertest.Disk) Blocks {
	return Blocks{d.Block(fileRecord), d.Block(fileCopy), [2]bootloader.Block{d.Block(fileSlotA), d.Block(fileSlotB)}}
}

// others is what other programs and newer versions keep in the record.
const others = "# a remark\nsaved_entry=1>2\ntwinkeel_newer=x\nodd=a\\\\b\\\nc\n"

func backend() bootloadertest.Backend {
	return bootloadertest.Backend{
		Blocks: map[string]int{fileRecord: BlockSize, fileCopy: BlockSize, fileSlotA: BlockSize, fileSlotB: BlockSize},
		Create: func(d *bootloadertest.Disk, s bootloader.State, descriptions map[partitions.Slot]bootloader.Description) error {
			return Create(blocks(d), s, descriptions)
		},
		Open:    func(d *bootloadertest.Disk) bootloadertest.Loader { return New(blocks(d), Running()) },
		PowerOn: powerOn,
		Plant: func(d *bootloadertest.Disk) {
			for _, name := range []string{fileRecord, fileCopy} {
				raw := d.Raw()[name]
				copy(raw[len(bytes.TrimRight(raw, "#")):], others)
			}
		},
		Foreign: func(d *bootloadertest.Disk) string {
			raw := d.Raw()[fileRecord]
			if e, err := ParseEnv(raw); err != nil || !whole(e) {
				raw = d.Raw()[fileCopy]
			}
			i := bytes.Index(raw, []byte("# a remark"))
			if i < 0 {
				return "lost"
			}
			return string(bytes.TrimRight(raw[i:], "#"))
		},
		Copies: [2]bootloadertest.Place{{Block: fileRecord}, {Block: fileCopy}},
	}
}

func TestBackend(t *testing.T) { bootloadertest.Run(t, backend()) }

// read reads one block.
func read(block bootloader.Block) (*Env, error) {
	b, err := readRaw(block)
	if err != nil {
		return nil, err
	}
	return ParseEnv(b)
}

// powerOn is the script of Snippet in Go; TestTheScriptDoesWhatTheModelDoes keeps the two
// together. It writes like GRUB: the whole block, sector by sector.
func powerOn(d *bootloadertest.Disk) (partitions.Slot, error) {
	b := blocks(d)
	counting := true
	e, err := read(b.Record)
	if err != nil || !whole(e) {
		counting = false
		if e, err = read(b.Copy); err != nil {
			e = &Env{}
		}
	}
	s := bootloader.State{Slots: slotRecords(e)}
	if !counting {
		s = s.Standing()
	}
	if !whole(e) {
		s = bootloader.State{Slots: [2]bootloader.Record{{Priority: 2, Successful: true}, {Priority: 1, Successful: true}}}
	}
	for range partitions.Slots {
		slot, ok := s.Next()
		if ok && !s.Slots[slot].Successful {
			s = s.Booted(slot)
			if !count(b.Record, slotVars[slot].tries, s.Slots[slot].Tries) {
				s = s.Standing()
				slot, ok = s.Next()
			}
		}
		if !ok {
			break
		}
		if e, err := read(b.Slots[slot]); err == nil {
			if v, _ := e.Get(varDescribes); v == slot.String() {
				return slot, nil
			}
		}
		s.Slots[slot] = bootloader.Record{}
	}
	return 0, fmt.Errorf("nothing to boot: %+v", s.Slots)
}

// count does what save_env does to a variable of one digit, and load_env afterwards.
func count(block bootloader.Block, name string, tries uint8) bool {
	raw, err := readRaw(block)
	if err != nil {
		return false
	}
	at := bytes.Index(raw, []byte("\n"+name+"="))
	if at < 0 {
		return false
	}
	raw[at+len(name)+2] = '0' + tries
	for off := 0; off < BlockSize; off += sector {
		if _, err := block.WriteAt(raw[off:off+sector], int64(off)); err != nil {
			return false
		}
	}
	if err := block.Flush(); err != nil {
		return false
	}
	e, err := read(block)
	if err != nil {
		return false
	}
	v, _ := e.Get(name)
	return v == string(rune('0'+tries))
}

func standing() bootloader.State {
	return bootloader.State{Slots: [2]bootloader.Record{{Priority: 2, Successful: true}, {}}, Epoch: 3}
}

func description(t testing.TB, version string) bootloader.Description {
	t.Helper()
	v, err := release.ParseVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	return bootloader.Description{
		Version: v, Root: release.DigestOf([]byte(version)), Salt: release.Salt{0xab, 0xcd}, HashOffset: 486539264,
		Images: map[string]release.Digest{"root": release.DigestOf([]byte(version)), "boot": release.DigestOf([]byte("b"))},
	}
}

// inFiles makes a record in files of a new directory.
func inFiles(t testing.TB, s bootloader.State) (dir string, l *Loader) {
	t.Helper()
	dir = t.TempDir()
	b, err := MakeFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := map[partitions.Slot]bootloader.Description{partitions.A: description(t, "1.0"), partitions.B: description(t, "1.1")}
	if err := Create(b, s, d); err != nil {
		t.Fatal(err)
	}
	l, err = Open(dir, Running())
	if err != nil {
		t.Fatal(err)
	}
	return dir, l
}

func TestTheLargestRecordLiesWithinTheFirstSector(t *testing.T) {
	s := bootloader.State{Slots: [2]bootloader.Record{{Priority: 2, Tries: 7, Successful: true}, {Priority: 1, Tries: 7, Successful: true}}, Epoch: 1<<64 - 1, DeniedAttempt: 1<<64 - 1}
	e := &Env{}
	if err := e.SetFirst(variables(s, 1<<32-1), isRecord); err != nil {
		t.Fatal(err)
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(bytes.TrimRight(b, "#")); n > sector {
		t.Errorf("it takes %d bytes", n)
	}
}

// A block whose front is of one record and whose back is of another is not taken for
// whole, unless it reads as one of the two.
func TestARecordTornAnywhereIsOldOrNewOrNotWhole(t *testing.T) {
	d := bootloadertest.NewDisk(backend().Blocks)
	descriptions := map[partitions.Slot]bootloader.Description{partitions.A: description(t, "1.0"), partitions.B: description(t, "1.1")}
	if err := Create(blocks(d), standing(), descriptions); err != nil {
		t.Fatal(err)
	}
	armed, err := standing().Arm(partitions.B, 3)
	if err != nil {
		t.Fatal(err)
	}
	l := New(blocks(d), Running())
	before := standing()
	for _, after := range []bootloader.State{armed, armed.Commit(partitions.B), standing()} {
		old := bytes.Clone(d.Raw()[fileRecord])
		if err := l.Store(context.Background(), after); err != nil {
			t.Fatal(err)
		}
		now := d.Raw()[fileRecord]
		for at := range sector {
			for _, torn := range [][]byte{append(bytes.Clone(now[:at]), old[at:]...), append(bytes.Clone(old[:at]), now[at:]...)} {
				e, err := ParseEnv(torn)
				if err != nil || !whole(e) {
					continue
				}
				if got := slotRecords(e); got != before.Slots && got != after.Slots {
					t.Fatalf("torn at byte %d: %+v is neither %+v nor %+v", at, got, before.Slots, after.Slots)
				}
			}
		}
		before = after
	}
}

func TestFilesKeepInodeAndSize(t *testing.T) {
	ctx := context.Background()
	dir, l := inFiles(t, standing())
	before := map[string]os.FileInfo{}
	for _, name := range []string{fileRecord, fileCopy, fileSlotA, fileSlotB} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		before[name] = st
	}
	if err := l.Describe(ctx, partitions.B, description(t, "2026.11.21.1")); err != nil {
		t.Fatal(err)
	}
	armed, err := standing().Arm(partitions.B, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Store(ctx, armed); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Load(ctx); err != nil || got != armed {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, st := range before {
		now, err := os.Stat(filepath.Join(dir, name))
		if err != nil || !os.SameFile(st, now) || now.Size() != BlockSize {
			t.Errorf("%s: %v; GRUB would not find it where it was", name, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 {
		t.Errorf("files were left behind: %v, %v", entries, err)
	}
}

func TestFilesThatCannotBeBlocksAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"short":  func(p string) error { return os.Truncate(p, BlockSize-1) },
		"long":   func(p string) error { return os.Truncate(p, 4096) },
		"absent": os.Remove,
		"link": func(p string) error {
			if err := os.Rename(p, p+".real"); err != nil {
				return err
			}
			return os.Symlink(p+".real", p)
		},
	} {
		dir, _ := inFiles(t, standing())
		if err := spoil(filepath.Join(dir, fileCopy)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, Running()); err == nil {
			t.Errorf("%s: was opened", name)
		}
	}
}

func TestADistributionsOwnVariablesAreAdopted(t *testing.T) {
	d := bootloadertest.NewDisk(backend().Blocks)
	e := &Env{}
	if err := e.SetFirst([]Variable{{"saved_entry", "debian"}, {"multi", "a\nb\\c"}}, isOurs); err != nil {
		t.Fatal(err)
	}
	raw, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	copy(d.Raw()[fileRecord], raw)
	if err := Create(blocks(d), standing(), nil); err != nil {
		t.Fatal(err)
	}
	got, err := ParseEnv(d.Raw()[fileRecord])
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := got.Get("multi"); v != "a\nb\\c" || !bytes.Contains(d.Raw()[fileRecord], []byte("saved_entry=debian\nmulti=a\\\nb\\\\c\n")) {
		t.Errorf("got %q", d.Raw()[fileRecord])
	}
}

func TestADamagedEpochIsTakenFromTheOtherCopyOrNotAtAll(t *testing.T) {
	ctx := context.Background()
	d := bootloadertest.NewDisk(backend().Blocks)
	if err := Create(blocks(d), standing(), nil); err != nil {
		t.Fatal(err)
	}
	l := New(blocks(d), Running())
	lower := func(name string) {
		raw := d.Raw()[name]
		at := bytes.Index(raw, []byte(varEpoch+"=0000000000000003"))
		raw[at+len(varEpoch)+16] = '1'
	}
	lower(fileRecord)
	if got, err := l.Load(ctx); err != nil || got != standing() {
		t.Errorf("got %+v, %v", got, err)
	}
	lower(fileCopy)
	if got, err := l.Load(ctx); err == nil {
		t.Errorf("both damaged: got epoch %d", got.Epoch)
	}
}

func TestTooManyVariablesAreAnErrorAndChangeNothing(t *testing.T) {
	ctx := context.Background()
	dir, l := inFiles(t, standing())
	before, err := os.ReadFile(filepath.Join(dir, fileSlotB))
	if err != nil {
		t.Fatal(err)
	}
	d := description(t, "1.2")
	for i := range 9 {
		d.Images[fmt.Sprintf("image-with-a-long-name-%d", i)] = release.Digest{1}
	}
	if err := l.Describe(ctx, partitions.B, d); err == nil || !strings.Contains(err.Error(), "at most 1024") {
		t.Errorf("got %v", err)
	}
	d.Images = map[string]release.Digest{"a,b": {}}
	if err := l.Describe(ctx, partitions.B, d); err == nil {
		t.Error("an image name with a comma was written")
	}
	after, err := os.ReadFile(filepath.Join(dir, fileSlotB))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the description changed: %v", err)
	}
}

func TestBootedReadsTheKernelsCommandLine(t *testing.T) {
	dir := t.TempDir()
	k := Kernel{Cmdline: filepath.Join(dir, "cmdline"), BootID: filepath.Join(dir, "boot_id"), SoftReboot: filepath.Join(dir, "soft-reboot")}
	l := New(Blocks{}, k)
	put := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(k.BootID, "1d2c\n")
	for line, want := range map[string]bootloader.Boot{
		"quiet twinkeel.slot=a panic=1\n":               {Slot: partitions.A, ID: "1d2c", Firmware: true},
		"twinkeel.slot=b twinkeel.fallback=0":           {Slot: partitions.B, ID: "1d2c", Firmware: true},
		"twinkeel.slot=b twinkeel.fallback=1":           {Slot: partitions.B, ID: "1d2c", Firmware: true, Fallback: true},
		"twinkeel.slot=b x twinkeel.slot=b":             {Slot: partitions.B, ID: "1d2c", Firmware: true},
		"twinkeel.kexec twinkeel.slot=a":                {Slot: partitions.A, ID: "1d2c"},
		"twinkeel.slot=a twinkeel.kexec=1 twinkeel.slo": {Slot: partitions.A, ID: "1d2c"},
	} {
		put(k.Cmdline, line)
		if got, err := l.Booted(context.Background()); err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", line, got, err, want)
		}
	}
	for _, line := range []string{"", "quiet", "twinkeel.slot=", "twinkeel.slot=c", "twinkeel.slot=a twinkeel.slot=b", "xtwinkeel.slot=a"} {
		put(k.Cmdline, line)
		if got, err := l.Booted(context.Background()); err == nil {
			t.Errorf("%q: got %+v", line, got)
		}
	}
	put(k.Cmdline, "twinkeel.slot=a")
	put(k.SoftReboot, "")
	if got, err := l.Booted(context.Background()); err != nil || got.Firmware || got.ID == "1d2c" {
		t.Errorf("after a soft reboot: got %+v, %v", got, err)
	}
}
