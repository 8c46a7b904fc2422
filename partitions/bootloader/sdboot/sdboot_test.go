package sdboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/bootloadertest"
	"github.com/twinkeel/twinkeel/partitions/bootloader/record"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
	"github.com/twinkeel/twinkeel/release"
)

const disk = "record"

// noKernels stands for kernels that are always in their place. Their command line is long
// enough for an entry of two sectors.
type noKernels struct{}

func (noKernels) Place(context.Context, partitions.Slot) error { return nil }

func (noKernels) Cmdline(partitions.Slot) (string, error) {
	return "quiet" + strings.Repeat(" x", 200), nil
}

func open(d *bootloadertest.Disk) *Loader {
	return New(d.Dir(), d.Block(disk), noKernels{}, running.Kernel{})
}

func backend() bootloadertest.Backend {
	return bootloadertest.Backend{
		Blocks: map[string]int{disk: record.Size + 512},
		Create: func(d *bootloadertest.Disk, s bootloader.State, descriptions map[partitions.Slot]bootloader.Description) error {
			return Create(d.Dir(), d.Block(disk), noKernels{}, s, descriptions)
		},
		Open:    func(d *bootloadertest.Disk) bootloadertest.Loader { return open(d) },
		PowerOn: powerOn,
		Plant: func(d *bootloadertest.Disk) {
			if err := d.Dir().Make("debian.conf", []byte("title Debian\nsort-key debian\nlinux /vmlinuz\n")); err != nil {
				panic(err)
			}
			copy(d.Raw()[disk][record.Size:], "bytes of another program")
		},
		Foreign: func(d *bootloadertest.Disk) string {
			b, err := d.Dir().Read("debian.conf")
			return fmt.Sprint(string(b), err, string(d.Raw()[disk][record.Size:]))
		},
		Copies:        [2]bootloadertest.Place{{Block: disk, Offset: record.First * record.AreaSize}, {Block: disk, Offset: record.Second * record.AreaSize}},
		CountsInNames: true,
	}
}

func TestBackend(t *testing.T) { bootloadertest.Run(t, backend()) }

// counters is how systemd-boot 252 reads them out of a name.
var counters = regexp.MustCompile(`^(.*)\+([0-9]+)(?:-([0-9]+))?(\.conf)$`)

// powerOn is what systemd-boot does with entries twinkeel-*: it knows nothing of slots.
func powerOn(d *bootloadertest.Disk) (partitions.Slot, error) {
	type found struct {
		id         string
		left, done int
		options    string
	}
	names, err := d.Dir().List()
	if err != nil {
		return 0, err
	}
	var all []found
	for _, name := range names {
		content, err := d.Dir().Read(name)
		if err != nil {
			return 0, err
		}
		f := found{id: name, left: -1}
		linux := false
		for line := range strings.Lines(string(content)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			linux = linux || key == "linux"
			if key == "options" {
				f.options = value
			}
		}
		if !strings.HasPrefix(name, "twinkeel-") || !strings.HasSuffix(name, ".conf") || !linux {
			continue
		}
		if m := counters.FindStringSubmatch(name); m != nil {
			fmt.Sscan(m[2], &f.left)
			fmt.Sscan("0"+m[3], &f.done)
		}
		all = append(all, f)
	}
	if len(all) == 0 {
		return 0, errors.New("no entry")
	}
	slices.SortFunc(all, func(a, b found) int {
		if (a.left == 0) != (b.left == 0) {
			if a.left == 0 {
				return 1
			}
			return -1
		}
		return -strings.Compare(a.id, b.id)
	})
	boot := all[0]
	if boot.left > 0 {
		to := counters.ReplaceAllString(boot.id, fmt.Sprintf("${1}+%d-%d$4", boot.left-1, boot.done+1))
		_ = d.Dir().Rename(boot.id, to) // it boots also if that fails
	}
	b, err := running.ParseCmdline(boot.options)
	if err != nil {
		return 0, fmt.Errorf("entry %s boots with a torn command line: %w", boot.id, err)
	}
	if desc, err := open(d).Description(b.Slot); err != nil || !strings.Contains(boot.options, " twinkeel.version="+desc.Version.String()+" ") {
		return 0, fmt.Errorf("entry %s boots as another version: %q, %v", boot.id, boot.options, err)
	}
	return b.Slot, nil
}

func TestNamesOfEntries(t *testing.T) {
	for name, want := range map[string]entry{
		"twinkeel-00000010-a.conf":      {seq: 10, slot: partitions.A},
		"twinkeel-00000020-b+3.conf":    {seq: 20, slot: partitions.B, counted: true, left: 3},
		"twinkeel-99999999-b+0-7.conf":  {seq: 99999999, slot: partitions.B, counted: true, done: 7},
		"twinkeel-00000020-a+2-11.conf": {seq: 20, slot: partitions.A, counted: true, left: 2, done: 11},
	} {
		got, ok := parseName(name)
		if !ok || got != want || got.name() != name {
			t.Errorf("%s: got %+v, %v, which is called %s", name, got, ok, got.name())
		}
	}
	for _, name := range []string{"", "debian.conf", "twinkeel-1-a.conf", "twinkeel-00000010-c.conf", "twinkeel-00000010-a+.conf", "twinkeel-00000010-a+1-.conf", "twinkeel-00000010-a+111.conf", "xtwinkeel-00000010-a.conf", "twinkeel-00000010-a.conf.new"} {
		if got, ok := parseName(name); ok {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestAnEntryCountsForNothingBeforeItsLastSector(t *testing.T) {
	d := bootloader.Description{}
	for _, extra := range []int{0, 100, 200, 250, 300, 500, 700, 1000} {
		b, err := render(partitions.B, d, true, strings.Repeat("x", extra))
		if err != nil {
			t.Fatal(err)
		}
		if len(b)%sector != 0 || !live(b) || live(b[:len(b)-sector]) {
			t.Errorf("%d more bytes: %q", extra, b)
		}
		if blank := append(bytes.Clone(b[:len(b)-sector]), bytes.Repeat([]byte("\n"), sector)...); live(blank) {
			t.Errorf("%d more bytes: still an entry without its last sector", extra)
		}
	}
	if _, err := render(partitions.A, d, false, strings.Repeat("x", maxEntry)); err == nil {
		t.Error("an entry that is too long was made")
	}
}

// Both names of a rename that was cut lead to one file on a FAT. What they say is bounded,
// and the next Store leaves one.
func TestBothNamesOfACutRenameAreOneTrial(t *testing.T) {
	ctx := context.Background()
	b := backend()
	d := bootloadertest.NewDisk(b.Blocks)
	s := bootloader.State{Slots: [2]bootloader.Record{{Priority: 1, Successful: true}, {Priority: 2, Tries: 3}}}
	both := map[partitions.Slot]bootloader.Description{partitions.A: {Version: version(t, "1.0")}, partitions.B: {Version: version(t, "1.1")}}
	if err := b.Create(d, s, both); err != nil {
		t.Fatal(err)
	}
	content, err := d.Dir().Read("twinkeel-00000010-b+3.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Dir().Make("twinkeel-00000010-b+2-1.conf", content); err != nil {
		t.Fatal(err)
	}
	boots := 0
	for ; ; boots++ {
		slot, err := powerOn(d)
		if err != nil {
			t.Fatal(err)
		}
		if slot == partitions.A {
			break
		}
	}
	if boots > 5 {
		t.Errorf("%d trials of 3", boots)
	}
	got, err := open(d).Load(ctx)
	if err != nil || got.Slots[partitions.B].Tries != 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got, err = got.Clear(partitions.B); err != nil {
		t.Fatal(err)
	}
	if err := open(d).Store(ctx, got); err != nil {
		t.Fatal(err)
	}
	if names, err := d.Dir().List(); err != nil || len(names) != 1 {
		t.Errorf("left: %q, %v", names, err)
	}
}

func version(t *testing.T, s string) release.Version {
	t.Helper()
	v, err := release.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
