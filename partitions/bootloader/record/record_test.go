package record

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// disk is a block in memory that says what is done to it, and whose next flushes can fail.
type disk struct {
	data  []byte
	log   []string
	fails int
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) { return copy(p, d.data[off:]), nil }

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	d.log = append(d.log, "write "+strconv.Itoa(int(off/AreaSize)))
	return copy(d.data[off:], p), nil
}

func (d *disk) Flush() error {
	d.log = append(d.log, "flush")
	if d.fails > 0 {
		d.fails--
		return errors.New("input/output error")
	}
	return nil
}

// Whatever write a flush failed after, the next Store flushes before it writes to either copy.
func TestAFlushThatFailedIsMadeUpForBeforeTheOtherCopyIsWritten(t *testing.T) {
	s := bootloader.State{Slots: [2]bootloader.Record{{Priority: 2, Successful: true}, {}}}
	for name, spoilt := range map[string]bool{"store": false, "repair": true} {
		d := &disk{data: make([]byte, Size)}
		if err := Create(d, s, nil); err != nil {
			t.Fatal(err)
		}
		r := On(d)
		if err := r.Store(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		if spoilt {
			d.data[First*AreaSize+9] ^= 1
		}
		d.fails = 1
		if err := r.Store(context.Background(), s); err == nil {
			t.Fatalf("%s: the flush failed, and nobody says so", name)
		}
		d.log = nil
		if err := r.Store(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(d.log[:1], []string{"flush"}) {
			t.Errorf("%s: got %q, want a flush first", name, d.log)
		}
	}
}
