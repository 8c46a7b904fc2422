package sim

import (
	"bytes"
	"context"
	"testing"

	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/deltas/diff"
	"github.com/twinkeel/twinkeel/release"
)

// Whether a plan is remembered or made makes no difference: not to it, not to an error,
// and not to what is read of the base, whatever became of that.
func TestARememberedPlanIsTheOneThatWouldBeMade(t *testing.T) {
	old := Image(40*release.BlockSize, 1)
	next := Edit(old, 2)
	var container bytes.Buffer
	made, err := diff.Create(context.Background(), &diff.Source{Reader: bytes.NewReader(old), Size: int64(len(old)), Salt: release.Salt{1}},
		&diff.Source{Reader: bytes.NewReader(next), Size: int64(len(next)), Salt: release.Salt{1}}, &container, diff.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := made.Head.Segments[0]
	payload := container.Bytes()[s.PayloadOffset:][:s.PayloadLength]
	var plans Plans
	live := func(p *Plans, rot int64, failing int) (plan []byte, failed bool, trace []string) {
		w := newWorld(1)
		d := w.NewDisk("base", int64(len(old)), 512, release.BlockSize)
		d.Fill(old)
		if rot >= 0 {
			d.Rot(rot)
		}
		if failing > 0 {
			w.FailAt(failing)
		}
		plan, err := p.decode(new(decode.Decoder), payload, s, reader{d})
		return plan, err != nil, w.Trace()
	}
	for _, rot := range []int64{-1, -1, 0, 5 * release.BlockSize, 39 * release.BlockSize, -1} {
		for failing := range 4 {
			plan, failed, trace := live(nil, rot, failing)
			again, failedToo, traced := live(&plans, rot, failing)
			if failed != failedToo || !failed && !bytes.Equal(plan, again) || len(trace) != len(traced) {
				t.Errorf("rot %d, failing %d: got %d bytes, failed %t, %d steps; want %d, %t, %d", rot, failing, len(again), failedToo, len(traced), len(plan), failed, len(trace))
			}
		}
	}
	if len(plans.made) != 1 {
		t.Errorf("got %d plans, want 1", len(plans.made))
	}
}
