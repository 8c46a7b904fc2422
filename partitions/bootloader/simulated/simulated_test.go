package simulated

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/bootloadertest"
	"github.com/twinkeel/twinkeel/partitions/bootloader/record"
	"github.com/twinkeel/twinkeel/release"
)

const disk = "disk"

// plant adds a field of a newer format to record and slots, and bytes behind the record.
func plant(d *bootloadertest.Disk) {
	raw := d.Raw()[disk]
	for _, number := range []int{record.First, record.Second} {
		at := number * record.AreaSize
		value, err := record.DecodeArea(number, raw[at:at+record.AreaSize])
		if err != nil {
			panic(err)
		}
		value = bytes.Replace(value, []byte(`"slots":[{`), []byte(`"newer":{"a":[1,18446744073709551615]},"slots":[{"colour":"blue",`), 1)
		b, err := record.EncodeArea(number, value)
		if err != nil {
			panic(err)
		}
		copy(raw[at:], b)
	}
	copy(raw[Size:], "bytes of another program")
}

// foreign returns what plant added, from the copy that counts.
func foreign(d *bootloadertest.Disk) string {
	raw := d.Raw()[disk]
	value, err := record.DecodeArea(record.First, raw[:record.AreaSize])
	if err != nil {
		value, err = record.DecodeArea(record.Second, raw[record.AreaSize:2*record.AreaSize])
	}
	if err != nil {
		return err.Error()
	}
	var v struct {
		Newer json.RawMessage
		Slots []struct{ Colour string }
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return err.Error()
	}
	return string(v.Newer) + v.Slots[0].Colour + string(raw[Size:])
}

func TestBackend(t *testing.T) {
	bootloadertest.Run(t, bootloadertest.Backend{
		Blocks: map[string]int{disk: Size + 512},
		Create: func(d *bootloadertest.Disk, s bootloader.State, descriptions map[partitions.Slot]bootloader.Description) error {
			return Create(d.Block(disk), s, descriptions)
		},
		Open: func(d *bootloadertest.Disk) bootloadertest.Loader { return New(d.Block(disk)) },
		PowerOn: func(d *bootloadertest.Disk) (partitions.Slot, error) {
			b, err := New(d.Block(disk)).PowerOn(context.Background(), "id", nil)
			return b.Slot, err
		},
		Plant:   plant,
		Foreign: foreign,
		Copies:  [2]bootloadertest.Place{{Block: disk, Offset: record.First * record.AreaSize}, {Block: disk, Offset: record.Second * record.AreaSize}},
	})
}

func standing() bootloader.State {
	return bootloader.State{Slots: [2]bootloader.Record{{Priority: 2, Successful: true}, {}}}
}

// file makes a boot record in a regular file, on which the slots were described.
func file(t *testing.T, s bootloader.State) (path string, l *Loader) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "bootrecord")
	if err := os.WriteFile(path, make([]byte, Size+4096), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := bootloader.Description{Version: version(t, "1.0"), Images: map[string]release.Digest{"root": {1}, "boot": {2}}}
	if err := Create(f, s, map[partitions.Slot]bootloader.Description{partitions.A: d, partitions.B: d}); err != nil {
		t.Fatal(err)
	}
	l, err = Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, l
}

func version(t *testing.T, s string) release.Version {
	t.Helper()
	v, err := release.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestARecordInAFileLivesThroughATrial(t *testing.T) {
	ctx := context.Background()
	path, l := file(t, standing())
	if _, err := l.Booted(ctx); err == nil {
		t.Error("a machine that was never started says which slot runs")
	}
	armed, err := standing().Arm(partitions.B, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Store(ctx, armed); err != nil {
		t.Fatal(err)
	}
	for i, want := range []partitions.Slot{partitions.B, partitions.B, partitions.A, partitions.A} {
		id := string(rune('w' + i))
		if _, err := l.PowerOn(ctx, id, nil); err != nil {
			t.Fatal(err)
		}
		again, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := again.Booted(ctx); err != nil || b != (bootloader.Boot{Slot: want, ID: id, Firmware: true}) {
			t.Fatalf("boot %d: got %+v, %v; want slot %s", i, b, err, want)
		}
	}
	if err := l.Kexec(ctx, partitions.B, "k"); err != nil {
		t.Fatal(err)
	}
	if b, err := l.Booted(ctx); err != nil || b != (bootloader.Boot{Slot: partitions.B, ID: "k"}) {
		t.Errorf("after kexec: got %+v, %v", b, err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() != Size+4096 {
		t.Errorf("the file's size changed: %v, %v", st.Size(), err)
	}
}

func TestASlotThatCannotBeLoadedFallsBackInTheSameBoot(t *testing.T) {
	ctx := context.Background()
	armed, err := standing().Arm(partitions.B, 3)
	if err != nil {
		t.Fatal(err)
	}
	_, l := file(t, armed)
	onlyA := func(s partitions.Slot) bool { return s == partitions.A }
	b, err := l.PowerOn(ctx, "1", onlyA)
	if err != nil || b != (bootloader.Boot{Slot: partitions.A, ID: "1", Firmware: true, Fallback: true}) {
		t.Fatalf("got %+v, %v", b, err)
	}
	s, err := l.Load(ctx)
	if err != nil || s != armed.Booted(partitions.B) {
		t.Errorf("the loader left %+v, %v: the agent has to see that the slot was tried", s, err)
	}
	none := func(partitions.Slot) bool { return false }
	if _, err := l.PowerOn(ctx, "2", none); !errors.Is(err, ErrNothingBoots) {
		t.Errorf("no slot can be loaded: got %v, want ErrNothingBoots", err)
	}
}

func TestTwoDamagedCopiesAreAnErrorAndNotAGuess(t *testing.T) {
	ctx := context.Background()
	path, l := file(t, standing())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[100] ^= 1
	b[record.AreaSize+100] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := l.Load(ctx); err == nil {
		t.Errorf("loaded %+v", s)
	}
	if _, err := l.PowerOn(ctx, "1", nil); !errors.Is(err, ErrNothingBoots) {
		t.Errorf("got %v, want ErrNothingBoots", err)
	}
	if err := l.Describe(ctx, partitions.B, bootloader.Description{}); err == nil {
		t.Error("a slot was described whose record is unknown")
	}
	if err := l.Store(ctx, standing()); err != nil {
		t.Errorf("the record cannot be made anew: %v", err)
	}
}

func TestADescriptionKeepsNothingOfTheOneBefore(t *testing.T) {
	ctx := context.Background()
	_, l := file(t, standing())
	d := bootloader.Description{Version: version(t, "2.0"), Images: map[string]release.Digest{"root": {3}}}
	if err := l.Describe(ctx, partitions.B, d); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Description(partitions.B); err != nil || len(got.Images) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := l.Description(2); err == nil {
		t.Error("slot 2 has a description")
	}
}

func TestOpenRefusesWhatIsTooSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "small")
	if err := os.WriteFile(path, make([]byte, Size-1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "at least") {
		t.Errorf("got %v", err)
	}
	if _, err := Open(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: got %v", err)
	}
	if _, err := Open("relative"); err == nil {
		t.Error("a relative path was opened")
	}
}

// The vectors are what every reader of the format has to agree on.
func TestVectors(t *testing.T) {
	b := vector(t, "armed")
	d := bootloadertest.NewDisk(map[string]int{disk: Size})
	copy(d.Raw()[disk], b)
	l := New(d.Block(disk))
	want := bootloader.State{
		Slots: [2]bootloader.Record{{Priority: 1, Successful: true}, {Priority: 2, Tries: 3}},
		Epoch: 7, Denied: release.DigestOf([]byte("denied")), DeniedAttempt: 2,
	}
	if got, err := l.Load(context.Background()); err != nil || got != want {
		t.Errorf("armed: got %+v, %v", got, err)
	}
	for slot, v := range map[partitions.Slot]string{partitions.A: "1.0", partitions.B: "1.1"} {
		if got, err := l.Description(slot); err != nil || got.Version.String() != v || got.HashOffset != 8192 {
			t.Errorf("description of %s: got %+v, %v", slot, got, err)
		}
	}
	// Written again it is the same, byte for byte.
	if err := l.Store(context.Background(), want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d.Raw()[disk], b) {
		t.Error("the record is written differently now")
	}
	copy(d.Raw()[disk], vector(t, "first-copy-damaged"))
	if got, err := l.Load(context.Background()); err != nil || got != want.Standing() {
		t.Errorf("first copy damaged: got %+v, %v", got, err)
	}
	copy(d.Raw()[disk], vector(t, "copies-swapped"))
	if got, err := l.Load(context.Background()); err == nil {
		t.Errorf("copies swapped: got %+v", got)
	}
}

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../testdata/bootrecord", name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzBootRecord(f *testing.F) {
	b := vector(f, "armed")
	for i := range record.Areas + 1 {
		f.Add(i, b[i*record.AreaSize:(i+1)*record.AreaSize], []byte(nil))
		if value, err := record.DecodeArea(i, b[i*record.AreaSize:(i+1)*record.AreaSize]); err == nil {
			f.Add(i, []byte{}, value)
		}
	}
	f.Add(0, []byte{}, []byte(`{"slots":[{"priority":2,"x":1},{}],"slots":1,"y":[[]]}`))
	f.Fuzz(func(t *testing.T, number int, area, value []byte) {
		if len(area) == 0 { // a value with a good checksum
			var err error
			if area, err = record.EncodeArea(number, value); err != nil {
				return
			}
		}
		got, err := record.DecodeArea(number, area)
		if err != nil {
			return
		}
		again, err := record.EncodeArea(number, got)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := record.DecodeArea(number, again); err != nil || !bytes.Equal(back, got) {
			t.Fatalf("encoded again: %q, %v", back, err)
		}
		s, err := record.DecodeState(got)
		if err != nil {
			return
		}
		merged, err := record.Merge(got, s)
		if err != nil {
			t.Fatalf("a record that was read cannot be written: %v", err)
		}
		if back, err := record.DecodeState(merged); err != nil || back != s {
			t.Fatalf("%q: merged %q, which reads %+v, %v; want %+v", got, merged, back, err, s)
		}
	})
}
