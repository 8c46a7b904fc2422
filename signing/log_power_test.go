package signing_test

import (
	"testing"

	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/translog"
)

// Each lie again, with the power cut at every write that looking at it leads to, and at
// every write of what the honest log leads to: it is never believed, and never in the way.
func TestNoLieAboutTheLogIsBelievedAfterAPowerCut(t *testing.T) {
	for _, a := range logAttacks {
		t.Run(a.name, func(t *testing.T) {
			for cut := 1; ; cut++ {
				for _, lands := range []bool{false, true} {
					before := newLogged(t, translog.Require)
					h := newHost(t, before.repo)
					mustUse(t, h, before)
					r := before.clone()
					r.publishSecond()
					honest := r.clone()
					a.do(before, r)
					h.disk.effects, h.disk.cutAt, h.disk.lands = 0, cut, lands
					_ = h.refresh(r)
					if _, err := h.target(r, second); err == nil {
						t.Fatalf("cut %d: believed", cut)
					}
					reached := h.disk.effects >= cut
					h.restart()
					if err := h.refresh(r); err != nil {
						t.Fatal(err)
					}
					_, err := h.target(r, second)
					wantCode(t, err, signing.Untrusted)
					if len(h.State().Log.Refused) != 1 {
						t.Errorf("cut %d: refused: got %q", cut, h.State().Log.Refused)
					}

					h.disk.effects, h.disk.cutAt, h.disk.lands = 0, cut, lands
					_ = h.refresh(honest)
					_, _ = h.target(honest, second)
					h.restart()
					mustUse(t, h, honest)
					if _, err := h.target(honest, second); err != nil {
						t.Fatalf("cut %d: the honest log: %v", cut, err)
					}
					if s := h.State().Log; s.Size != 2 {
						t.Errorf("cut %d: got a log of %d entries, want 2", cut, s.Size)
					}
					if !reached && lands {
						return
					}
				}
			}
		})
	}
}
