package sdboot

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/bootloadertest"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
)

// cached is a Directory as Linux has one: what was written is read at once, and is on the disk
// only once it was synced. Of the sync before which fail is 1 nothing comes to the disk, ever:
// a sync that failed leaves clean what it did not write. Whoever is killed before a sync leaves
// the same until the kernel writes it by itself.
type cached struct {
	cache, disk map[string][]byte
	fail        int
	alive       []string // files that were still entries on the disk when they were removed
}

var errSync = errors.New("sync: input/output error")

func (c *cached) failed() bool { c.fail--; return c.fail == 0 }

func (c *cached) sync(name string) error {
	if c.failed() {
		return errSync
	}
	if b, ok := c.cache[name]; ok {
		c.disk[name] = bytes.Clone(b)
	} else {
		delete(c.disk, name)
	}
	return nil
}

func (c *cached) List() ([]string, error) { return slices.Sorted(maps.Keys(c.cache)), nil }

func (c *cached) Read(name string) ([]byte, error) {
	b, ok := c.cache[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(b), nil
}

func (c *cached) Make(name string, content []byte) error {
	if _, ok := c.cache[name]; ok {
		return fs.ErrExist
	}
	c.cache[name] = bytes.Clone(content)
	return c.sync(name)
}

// Write makes no other sectors durable than those that it covers, and none of a file that the
// disk does not know.
func (c *cached) Write(name string, p []byte, off int64) error {
	copy(c.cache[name][off:], p)
	if c.failed() {
		return errSync
	}
	if d := c.disk[name]; int(off)+len(p) <= len(d) {
		copy(d[off:], p)
	}
	return nil
}

func (c *cached) Remove(name string) error {
	if live(c.disk[name]) {
		c.alive = append(c.alive, name) // a power cut may bring the name back
	}
	delete(c.cache, name)
	return c.sync(name)
}

// started are the slots that the loader finds an entry of on the disk that says they are
// committed.
func (c *cached) started() (slots []partitions.Slot) {
	for name, b := range c.disk {
		if e, ok := parseName(name); ok && live(b) && !e.counted {
			slots = append(slots, e.slot)
		}
	}
	return slots
}

// What reads as it has to and may not be on the disk is no entry that another one is removed for.
func TestAnEntryThatCouldNotBeSyncedIsMadeAgain(t *testing.T) {
	for _, killed := range []bool{false, true} {
		for fail, struck := 1, true; struck; fail++ {
			c := &cached{cache: map[string][]byte{}, disk: map[string][]byte{}}
			d := bootloadertest.NewDisk(backend().Blocks)
			trial := bootloader.State{Slots: [2]bootloader.Record{{Priority: 1, Successful: true}, {Priority: 2, Tries: 2}}}
			both := map[partitions.Slot]bootloader.Description{partitions.A: {Version: version(t, "1.0")}, partitions.B: {Version: version(t, "1.1")}}
			if err := Create(c, d.Block(disk), noKernels{}, trial, both); err != nil {
				t.Fatal(err)
			}
			l := New(c, d.Block(disk), noKernels{}, running.Kernel{})
			c.fail = fail
			committed := trial.Commit(partitions.B)
			err := l.Store(t.Context(), committed)
			if struck = c.fail <= 0; struck && err == nil {
				t.Errorf("sync %d failed, and the commit was reported", fail)
			}
			c.fail = 0
			if killed {
				l = New(c, d.Block(disk), noKernels{}, running.Kernel{})
			}
			if err := l.Store(t.Context(), committed); err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(c.started(), partitions.B) {
				t.Errorf("sync %d failed, killed %t: slot b is committed, and none of its entries is on the disk", fail, killed)
			}
			cleared, err := committed.Clear(partitions.A)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Store(t.Context(), cleared); err != nil {
				t.Fatal(err)
			}
			if c.alive != nil {
				t.Errorf("sync %d failed, killed %t: entries were removed that the loader still saw: %q", fail, killed, c.alive)
			}
			if got := c.started(); !slices.Equal(got, []partitions.Slot{partitions.B}) {
				t.Errorf("sync %d failed, killed %t: slot a is cleared, and entries of %v are on the disk", fail, killed, got)
			}
		}
	}
}
