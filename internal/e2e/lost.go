package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent"
)

// lostWaits is how long after a lost trial the next one comes, by the rules of ADR 0006.
var lostWaits = []time.Duration{time.Hour, 6 * time.Hour, 24 * time.Hour}

// triesOfArm is how often the loader starts what was armed once.
const triesOfArm = 3

// alwaysLost tells of a release of which every trial ends without a verdict, and of a clock that
// moves on: it is tried again as often as the rules say, then no more.
func alwaysLost(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.updated("2.1"); err != nil {
		return err
	}
	for n, wait := range lostWaits {
		// The boot that arms it again, its trials, and the one after them.
		if err := h.lost(n+1, triesOfArm+2); err != nil {
			return err
		}
		if n == 1 { // half of the time is not enough
			h.ahead += wait / 2
			if err := h.lost(n+1, 1); err != nil {
				return err
			}
			wait -= wait / 2
		}
		h.ahead += wait
	}
	if _, err := h.rests(triesOfArm+2, nil); err != nil {
		return err
	}
	if err := h.tried(1 + len(lostWaits)); err != nil {
		return err
	}
	if err := h.refused(agent.CodeTrialLost, "update", "2.1", "--now"); err != nil {
		return err
	}
	if err := h.shutDown(); err != nil {
		return err
	}
	h.ahead += lostWaits[len(lostWaits)-1]
	if err := h.ends("a", "1.0", 1); err != nil {
		return err
	}
	if err := h.tried(1 + len(lostWaits)); err != nil {
		return err
	}
	return h.disarmed()
}

// lost lets the machine come to rest, checks that it was armed so often by then and waits for
// the next time, and turns it off.
func (h *host) lost(arms, within int) error {
	s, err := h.rests(within, nil)
	if err != nil {
		return err
	}
	if err := h.tried(arms); err != nil {
		return err
	}
	if s.Running != "a" || s.Next != "a" || !hasReason(s, agent.CodeRetry) {
		return fmt.Errorf("armed %d times: runs slot %s, next %s, %v; want a, and to wait for the next time", arms, s.Running, s.Next, s.Reasons)
	}
	return h.shutDown()
}

// tried checks how often a slot was armed, and that each time it was started, as often as the
// loader may.
func (h *host) tried(arms int) error {
	log, err := os.ReadFile(h.c.Log)
	if err != nil {
		return err
	}
	armed, started := strings.Count(string(log), `step="mark armed"`), strings.Count(string(log), "VM up slot=b")
	if armed != arms || started < arms || started > arms*triesOfArm {
		return fmt.Errorf("armed %d times and started %d times, want %d, each started 1 to %d times", armed, started, arms, triesOfArm)
	}
	return nil
}
