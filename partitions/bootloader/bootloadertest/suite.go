package bootloadertest

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// Loader is what a backend's Open returns: a BootLoader whose descriptions can be read.
type Loader interface {
	bootloader.BootLoader
	Description(partitions.Slot) (bootloader.Description, error)
}

// Backend is a backend over a disk of the suite.
type Backend struct {
	// Blocks are the names and sizes of the storage.
	Blocks map[string]int
	// Create lays out a record, as whoever makes the disk does.
	Create func(*Disk, bootloader.State, map[partitions.Slot]bootloader.Description) error
	// Open returns the backend, as the agent uses it.
	Open func(*Disk) Loader
	// PowerOn does what firmware and loader do and returns the slot that starts.
	PowerOn func(*Disk) (partitions.Slot, error)
	// Plant puts into a created record what others keep there: bytes around it,
	// variables of other programs, fields of a newer format. Foreign returns what is
	// there of it.
	Plant   func(*Disk)
	Foreign func(*Disk) string
	// Copies are the blocks and offsets at which the first and the second copy of the
	// record lie.
	Copies [2]Place
	// CountsInNames is set for a loader that keeps its counters in names of files, like
	// systemd-boot: without the first copy of the record it still counts, and a trial
	// whose counter it cannot save it starts all the same.
	CountsInNames bool
}

// Place is a sector on a disk.
type Place struct {
	Block  string
	Offset int
}

// Run tests a backend.
func Run(t *testing.T, b Backend) {
	t.Run("what is stored is loaded", b.roundTrip)
	t.Run("a state in which nothing boots is refused", b.refusals)
	t.Run("a slot is described only while it is cleared", b.describing)
	t.Run("the loader starts what the record says", b.loader)
	t.Run("a counter that is not saved means no trial", b.frozenCounter)
	t.Run("one damaged copy leaves a machine that starts", b.damage)
	t.Run("power cut inside a store", b.cutStore)
	t.Run("power cuts inside two stores, one after the other", b.cutTwice)
	t.Run("never are both copies on their way, even after a kill", b.killed)
	t.Run("power cut inside a description", b.cutDescribe)
	t.Run("power cut inside the loader", b.cutPowerOn)
	t.Run("no half-written slot is ever started", b.life)
}

// description returns the description of release n.
func description(n int) bootloader.Description {
	v, err := release.ParseVersion(fmt.Sprintf("1.%d", n))
	if err != nil {
		panic(err)
	}
	return bootloader.Description{
		Version: v, Root: release.DigestOf([]byte{byte(n)}), Salt: release.Salt{byte(n), 2, 3}, HashOffset: int64(n+1) * 4096,
		Images: map[string]release.Digest{"root": release.DigestOf([]byte{byte(n)}), "boot": release.DigestOf([]byte{byte(n), 1})},
	}
}

// created returns a disk that holds s, with both slots described and planted with
// foreign bytes.
func (b Backend) created(t testing.TB, s bootloader.State) *Disk {
	t.Helper()
	d := NewDisk(b.Blocks)
	if err := b.Create(d, s, map[partitions.Slot]bootloader.Description{partitions.A: description(1), partitions.B: description(2)}); err != nil {
		t.Fatal(err)
	}
	d.flush()
	b.Plant(d)
	return d
}

// state returns a boot record with every field in use.
func state(a, b bootloader.Record) bootloader.State {
	return bootloader.State{
		Slots: [2]bootloader.Record{a, b}, Epoch: 1<<64 - 2, Denied: release.DigestOf([]byte("denied")), DeniedAttempt: 1<<63 + 5,
	}
}

// standing is the state of a committed slot A beside a cleared slot B.
func standing() bootloader.State {
	return state(bootloader.Record{Priority: 2, Successful: true}, bootloader.Record{})
}

// states are all that Check accepts, with every number of tries that makes a difference.
func states() []bootloader.State {
	var records []bootloader.Record
	for priority := range uint8(bootloader.MaxPriority + 1) {
		for _, tries := range []uint8{0, 1, 3, bootloader.MaxTries} {
			records = append(records, bootloader.Record{Priority: priority, Tries: tries}, bootloader.Record{Priority: priority, Tries: tries, Successful: true})
		}
	}
	var out []bootloader.State
	for _, a := range records {
		for _, b := range records {
			if s := state(a, b); s.Check() == nil {
				out = append(out, s)
			}
		}
	}
	return out
}

func load(t testing.TB, l Loader) bootloader.State {
	t.Helper()
	s, err := l.Load(context.Background())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return s
}

func store(t testing.TB, l Loader, s bootloader.State) {
	t.Helper()
	if err := l.Store(context.Background(), s); err != nil {
		t.Fatalf("store %+v: %v", s, err)
	}
}

func (b Backend) roundTrip(t *testing.T) {
	d := b.created(t, standing())
	foreign := b.Foreign(d)
	if foreign == "" {
		t.Fatal("the backend planted nothing")
	}
	for _, s := range states() {
		store(t, b.Open(d), s)
		if got := load(t, b.Open(d)); got != s {
			t.Fatalf("stored %+v, loaded %+v", s, got)
		}
		s.Epoch, s.Denied, s.DeniedAttempt = 0, release.Digest{}, 0
		store(t, b.Open(d), s)
		if got := load(t, b.Open(d)); got != s {
			t.Fatalf("stored %+v, loaded %+v", s, got)
		}
		if d.pending != nil {
			t.Fatal("store returned before everything was flushed")
		}
	}
	if got := b.Foreign(d); got != foreign {
		t.Errorf("what others keep in the record changed:\n got %q\nwant %q", got, foreign)
	}
}

func (b Backend) refusals(t *testing.T) {
	d := b.created(t, standing())
	l := b.Open(d)
	good := bootloader.Record{Priority: 2, Successful: true}
	for _, s := range []bootloader.State{
		{},
		{Slots: [2]bootloader.Record{{Priority: 2}, {}}},
		{Slots: [2]bootloader.Record{{Priority: 3, Successful: true}, {}}},
		{Slots: [2]bootloader.Record{good, {Priority: 1, Tries: 8}}},
		{Slots: [2]bootloader.Record{good, good}},
	} {
		if err := l.Store(context.Background(), s); err == nil {
			t.Errorf("%+v was stored", s.Slots)
		}
		if got := load(t, l); got != standing() {
			t.Errorf("%+v was refused and yet the record changed to %+v", s.Slots, got.Slots)
		}
	}
}

func (b Backend) describing(t *testing.T) {
	ctx := context.Background()
	d := NewDisk(b.Blocks)
	if err := b.Create(d, standing(), map[partitions.Slot]bootloader.Description{partitions.A: description(1)}); err != nil {
		t.Fatal(err)
	}
	d.flush()
	l := b.Open(d)
	armed, err := standing().Arm(partitions.B, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Store(ctx, armed); err == nil {
		t.Error("a slot that was never described was made bootable")
	}
	if err := l.Describe(ctx, partitions.A, description(7)); err == nil {
		t.Error("the standing slot was described")
	}
	if err := l.Describe(ctx, 2, description(7)); err == nil {
		t.Error("slot 2 was described")
	}
	for _, n := range []int{7, 8} {
		if err := l.Describe(ctx, partitions.B, description(n)); err != nil {
			t.Fatal(err)
		}
		if d.pending != nil {
			t.Error("describe returned before everything was flushed")
		}
		b.described(t, d, partitions.B, n)
		b.described(t, d, partitions.A, 1)
	}
	store(t, l, armed)
	if err := l.Describe(ctx, partitions.B, description(9)); err == nil {
		t.Error("an armed slot was described")
	}
	store(t, l, armed.Booted(partitions.B).Booted(partitions.B).Booted(partitions.B))
	if err := l.Describe(ctx, partitions.B, description(9)); err == nil {
		t.Error("a slot whose tries are used up, but which is not cleared, was described")
	}
	b.described(t, d, partitions.B, 8)
}

// described checks that slot's description is that of release n.
func (b Backend) described(t testing.TB, d *Disk, slot partitions.Slot, n int) {
	t.Helper()
	if got, err := b.Open(d).Description(slot); err != nil || !reflect.DeepEqual(got, description(n)) {
		t.Fatalf("description of slot %s: got %+v, %v; want that of release %d", slot, got, err, n)
	}
}

func (b Backend) loader(t *testing.T) {
	for _, s := range states() {
		d := b.created(t, s)
		foreign := b.Foreign(d)
		want, _ := s.Next()
		if _, ok := s.Booted(want).Next(); !ok {
			continue // the last try of the only slot: not a state that the methods of State make
		}
		got, err := b.PowerOn(d)
		if err != nil || got != want {
			t.Fatalf("%+v: started slot %s, %v; want %s", s.Slots, got, err, want)
		}
		if after := load(t, b.Open(d)); after != s.Booted(want) {
			t.Fatalf("%+v: the loader left %+v, want %+v", s.Slots, after.Slots, s.Booted(want).Slots)
		}
		if b.Foreign(d) != foreign {
			t.Fatal("the loader changed what others keep in the record")
		}
	}
}

func (b Backend) frozenCounter(t *testing.T) {
	if b.CountsInNames {
		t.Skip("this loader gives no such promise")
	}
	armed, err := standing().Arm(partitions.B, 3)
	if err != nil {
		t.Fatal(err)
	}
	d := b.created(t, armed)
	d.frozen = true
	for range 10 {
		if slot, err := b.PowerOn(d); err != nil || slot != partitions.A {
			t.Fatalf("started slot %s, %v; want a", slot, err)
		}
	}
}

func (b Backend) damage(t *testing.T) {
	for _, s := range states() {
		stand, ok := s.Standing().Next()
		if !ok {
			continue // no committed slot: not a state that the methods of State make
		}
		next, _ := s.Next()
		for i, place := range b.Copies {
			d := b.created(t, s)
			noise(d.Raw()[place.Block][place.Offset : place.Offset+512])
			want := next
			if i == 0 && !b.CountsInNames {
				want = stand // without the first copy there is no trial
			}
			got := load(t, b.Open(d))
			if n, ok := got.Next(); !ok || n != want || !mirrored(got, s) {
				t.Fatalf("copy %d of %+v damaged: loaded %+v, want slot %s next", i+1, s, got, want)
			}
			if slot, err := b.PowerOn(d); err != nil || slot != want {
				t.Fatalf("copy %d of %+v damaged: started slot %s, %v; want %s", i+1, s.Slots, slot, err, want)
			}
			store(t, b.Open(d), s)
			if got := load(t, b.Open(d)); got != s {
				t.Fatalf("copy %d damaged: stored %+v, loaded %+v", i+1, s, got)
			}
		}
	}
}

// mirrored reports whether a and b agree in what the agent mirrors in the record.
func mirrored(a, b bootloader.State) bool {
	return a.Epoch == b.Epoch && a.Denied == b.Denied && a.DeniedAttempt == b.DeniedAttempt
}
