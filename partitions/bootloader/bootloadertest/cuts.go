package bootloadertest

import (
	"context"
	"errors"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// cut runs do on clones of d, once for each of its effects, with the power failing at
// that effect, and calls check once for every disk that can be left.
func cut(t *testing.T, d *Disk, do func(*Disk) error, check func(after *Disk)) {
	t.Helper()
	seen := map[string]bool{}
	for at := 0; ; at++ {
		c := d.clone()
		c.left = at
		err := do(c)
		done := c.left > 0 // effects are left over: nothing was cut
		if err != nil && !errors.Is(err, errPower) {
			t.Fatalf("cut at effect %d: %v", at, err)
		}
		for _, after := range c.crashes() {
			if key := after.key(); !seen[key] {
				seen[key] = true
				check(after)
			}
		}
		if done {
			if at == 1 {
				t.Fatal("no effect was cut")
			}
			return
		}
	}
}

// change is one Store.
type change struct {
	name     string
	old, new bootloader.State
}

// changes are all the stores that an agent makes.
func changes(t *testing.T) []change {
	t.Helper()
	must := func(s bootloader.State, err error) bootloader.State {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := partitions.A, partitions.B
	cleared := standing()
	armed := must(cleared.Arm(b, 3))
	trial := armed.Booted(b)
	committed := trial.Commit(b)
	denied := must(trial.Revert(b))
	denied.Denied, denied.DeniedAttempt = release.DigestOf([]byte("other")), 1
	epoch := committed
	epoch.Epoch = 1<<64 - 1
	lost := armed.Booted(b).Booted(b).Booted(b)
	back := must(committed.Arm(a, 2))
	all := []change{
		{"arm", cleared, armed},
		{"commit", trial, committed},
		{"commit with a higher epoch", trial, epoch},
		{"revert with a denial", trial, denied},
		{"revert before the first boot", armed, denied},
		{"clear after a lost trial", lost, must(lost.Clear(b))},
		{"clear the fallback", committed, must(committed.Clear(a))},
		{"arm again", lost, must(lost.Arm(b, 3))},
		{"roll back by hand", committed, back},
		{"commit the way back", back.Booted(a), back.Booted(a).Commit(a)},
		{"give up the way back", back.Booted(a), must(back.Booted(a).Revert(a))},
	}
	for i := range all {
		all[i].new.DeniedAttempt++ // a mix of old and new shows
	}
	return append(all, change{"store the same again", committed, committed})
}

// before is what the record held before the first of two stores: nothing that may ever
// come back.
func before() bootloader.State {
	return bootloader.State{Slots: [2]bootloader.Record{{Priority: 1, Successful: true}, {Priority: 2, Successful: true}}, Epoch: 1}
}

func (b Backend) cutStore(t *testing.T) {
	for _, c := range changes(t) {
		d := b.created(t, before())
		foreign := b.Foreign(d)
		store(t, b.Open(d), c.old)
		n := 0
		b.eachCut(t, d, c, func(after *Disk) {
			n++
			b.described(t, after, partitions.A, 1)
			b.described(t, after, partitions.B, 2)
			store(t, b.Open(after), c.new)
			if got := load(t, b.Open(after)); got != c.new {
				t.Fatalf("%s: stored again %+v, loaded %+v", c.name, c.new, got)
			}
			if got := b.Foreign(after); got != foreign {
				t.Fatalf("%s: what others keep in the record changed:\n got %q\nwant %q", c.name, got, foreign)
			}
			if want, _ := c.new.Next(); b.powerOn(t, after.clone()) != want {
				t.Fatalf("%s: stored again, and yet slot %s does not start", c.name, want)
			}
		})
		t.Logf("%s: %d disks", c.name, n)
	}
}

// killed ends a process at each effect of a Store, with the power on, and lets another one
// store after it: at no effect may writes to both copies wait to be flushed.
func (b Backend) killed(t *testing.T) {
	for _, c := range changes(t) {
		d := b.created(t, c.old)
		for kill, done := 0, false; !done; kill++ {
			for at := 0; ; at++ {
				d := d.clone()
				d.left = kill
				if err := b.Open(d).Store(context.Background(), c.new); err != nil && !errors.Is(err, errPower) {
					t.Fatal(err)
				}
				done = d.left > 0
				d.left = at
				if err := b.Open(d).Store(context.Background(), c.new); err != nil && !errors.Is(err, errPower) {
					t.Fatalf("%s: killed at effect %d: store: %v", c.name, kill, err)
				}
				if d.waits(b.Copies[0]) && d.waits(b.Copies[1]) {
					t.Fatalf("%s: killed at effect %d, then at effect %d: no copy is durable", c.name, kill, at)
				}
				if d.left > 0 {
					break
				}
			}
		}
	}
}

// cutTwice takes what a cut left for what it is, as an agent may, and cuts the next
// store too: then nothing older than that may come back.
func (b Backend) cutTwice(t *testing.T) {
	for _, c := range changes(t) {
		d := b.created(t, before())
		store(t, b.Open(d), c.old)
		b.eachCut(t, d, c, func(after *Disk) {
			got := load(t, b.Open(after))
			second := got
			if got.Check() != nil { // a mix of two priorities: the agent's next change ends it
				next, _ := got.Next()
				second = got.Commit(next)
			}
			second.Epoch--
			b.eachCut(t, after, change{c.name + ", then another store", got, second}, func(*Disk) {})
		})
	}
}

// eachCut cuts the store of c.new on d, which holds c.old, in every way, and checks what
// is left before it hands it on.
func (b Backend) eachCut(t *testing.T, d *Disk, c change, then func(*Disk)) {
	t.Helper()
	cut(t, d, func(d *Disk) error { return b.Open(d).Store(context.Background(), c.new) }, func(after *Disk) {
		got := load(t, b.Open(after))
		if !mirrored(got, c.old) && !mirrored(got, c.new) {
			t.Fatalf("%s: neither old nor new is mirrored: %+v", c.name, got)
		}
		b.startsOneOf(t, after, c, got)
		then(after)
	})
}

// startsOneOf checks that the machine starts a slot that old or new would have started,
// the one that Load's state promises.
func (b Backend) startsOneOf(t *testing.T, d *Disk, c change, loaded bootloader.State) {
	t.Helper()
	slot := b.powerOn(t, d.clone())
	if promised, ok := loaded.Next(); !ok || promised != slot {
		t.Fatalf("%s: loaded %+v, which promises slot %s, and slot %s starts", c.name, loaded.Slots, promised, slot)
	}
	for _, s := range []bootloader.State{c.old, c.new, c.old.Standing(), c.new.Standing()} {
		if next, ok := s.Next(); ok && next == slot {
			return
		}
	}
	t.Fatalf("%s: slot %s starts, which neither %+v nor %+v allows", c.name, slot, c.old.Slots, c.new.Slots)
}

func (b Backend) powerOn(t testing.TB, d *Disk) partitions.Slot {
	t.Helper()
	slot, err := b.PowerOn(d)
	if err != nil {
		t.Fatalf("power on: %v", err)
	}
	return slot
}

func (b Backend) cutDescribe(t *testing.T) {
	ctx := context.Background()
	d := b.created(t, standing())
	foreign := b.Foreign(d)
	cut(t, d, func(d *Disk) error { return b.Open(d).Describe(ctx, partitions.B, description(9)) }, func(after *Disk) {
		if got := load(t, b.Open(after)); got != standing() {
			t.Fatalf("describing changed the record to %+v", got)
		}
		if slot := b.powerOn(t, after.clone()); slot != partitions.A {
			t.Fatalf("slot %s starts while it is being described", slot)
		}
		b.described(t, after, partitions.A, 1)
		if got, err := b.Open(after).Description(partitions.B); err == nil && got.Version != description(2).Version && got.Version != description(9).Version {
			t.Fatalf("a torn description was read: %+v", got)
		}
		if err := b.Open(after).Describe(ctx, partitions.B, description(9)); err != nil {
			t.Fatalf("describing again: %v", err)
		}
		b.described(t, after, partitions.B, 9)
		if got := b.Foreign(after); got != foreign {
			t.Fatalf("what others keep in the record changed:\n got %q\nwant %q", got, foreign)
		}
	})
}

func (b Backend) cutPowerOn(t *testing.T) {
	armed, err := standing().Arm(partitions.B, 3)
	if err != nil {
		t.Fatal(err)
	}
	d := b.created(t, armed)
	foreign := b.Foreign(d)
	loader := func(d *Disk) error {
		_, err := b.PowerOn(d)
		if d.left == 0 { // whatever the loader thought: the machine is off
			return errPower
		}
		return err
	}
	cut(t, d, loader, func(after *Disk) {
		got := load(t, b.Open(after))
		if tries := got.Slots[partitions.B].Tries; tries > 3 {
			t.Fatalf("the counter grew to %d", tries)
		}
		if !mirrored(got, armed) || got.Slots[partitions.A] != armed.Slots[partitions.A] {
			t.Fatalf("the loader left %+v", got)
		}
		for range 8 { // the trial comes to its end
			promised, ok := load(t, b.Open(after)).Next()
			if slot := b.powerOn(t, after); !ok || slot != promised {
				t.Fatalf("slot %s starts, the record promised %s", slot, promised)
			}
		}
		if slot := b.powerOn(t, after); slot != partitions.A {
			t.Fatalf("slot %s starts for ever", slot)
		}
		if got := b.Foreign(after); got != foreign {
			t.Fatalf("what others keep in the record changed:\n got %q\nwant %q", got, foreign)
		}
	})
}
