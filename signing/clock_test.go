package signing_test

import (
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/signingtest"
)

const year = 365 * 24 * time.Hour

var epoch = time.Unix(0, 0)

func TestClockSetBackDoesNotRevive(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	mustUse(t, h, r)
	frozen := r.Files()
	// The host sees a timestamp that was signed after the frozen one expired.
	h.now = start.Add(signingtest.TimestampLife + time.Hour)
	r.Now = h.now
	r.Publish("fleet-stable")
	mustUse(t, h, r)
	late := h.now
	for _, clock := range []time.Time{epoch, start, late.Add(-time.Hour)} {
		h.now = clock
		h.restart()
		if !h.ClockBehind() {
			t.Errorf("clock at %s is not reported to be behind", clock)
		}
		mustUse(t, h, r) // the proven time is used instead
		thief := r.Clone()
		thief.SetFiles(frozen)
		wantCode(t, use(h, thief), signing.Untrusted)
	}
	// Expiry is judged by the proven time: what would be fresh in 1970 is not.
	r.Edit("timestamp", func(d doc) { d["expires"] = late.Add(-time.Minute).Format(time.RFC3339) })
	r.Bump("timestamp")
	r.WriteRaw("timestamp")
	h.now = epoch
	wantCode(t, h.refresh(r), signing.Expired)
}

func TestBuildTimeIsAFloor(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	h.now, h.minTime = epoch, start.Add(signingtest.TimestampLife+time.Hour)
	h.restart()
	wantCode(t, h.refresh(r), signing.Expired)
	if !h.ClockBehind() {
		t.Error("a clock in 1970 is not reported to be behind")
	}
	r.Now = h.minTime
	r.Publish("fleet-stable")
	mustUse(t, h, r)
	h.now = h.minTime.Add(-time.Minute)
	if h.ClockBehind() {
		t.Error("a minute is reported as behind")
	}
}

func TestClockTenYearsAheadLeavesNoMark(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	mustUse(t, h, r)
	h.now = start.Add(10 * year)
	for range 2 {
		wantCode(t, use(h, r), signing.Expired)
		if _, err := h.Cached(directiveName, 1<<20); err != nil {
			t.Errorf("cached: %v", err)
		}
		h.restart()
	}
	h.now = start
	mustUse(t, h, r)
	if h.ClockBehind() {
		t.Error("the right clock is reported to be behind")
	}
}

func TestSigningTimeThatCannotBeIsNoProof(t *testing.T) {
	for name, field := range map[string]any{
		"ten years ahead":  start.Add(10 * year).Format(time.RFC3339),
		"two days ahead":   start.Add(48 * time.Hour).Format(time.RFC3339),
		"not a time":       "tomorrow",
		"not a string":     5,
		"after its expiry": start.Add(signingtest.TimestampLife + time.Second).Format(time.RFC3339),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo()
			h := newHost(t, r)
			h.minTime = start.Add(-year)
			r.Edit("timestamp", func(d doc) { d["signedAt"] = field })
			r.Bump("timestamp")
			r.WriteRaw("timestamp")
			h.restart()
			mustUse(t, h, r)
			if got := h.State().TimeFloor; !got.Equal(h.minTime) {
				t.Errorf("time floor: got %s, want %s", got, h.minTime)
			}
		})
	}
}

// A host whose clock is known to be wrong has only the signer's word. If that was a
// lie, new timestamp keys undo it.
func TestPoisonedTimeIsCuredByNewTimestampKeys(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	h.now, h.minTime = epoch, start
	h.restart()
	lie := start.Add(300 * 24 * time.Hour)
	for _, role := range []string{"snapshot", "targets", "os-stable", "fleet-stable"} {
		r.Edit(role, func(d doc) { d["expires"] = start.Add(year).Format(time.RFC3339) })
		r.Bump(role)
		r.WriteRaw(role)
	}
	r.Bump("snapshot")
	r.Edit("snapshot", func(d doc) { d["expires"] = start.Add(year).Format(time.RFC3339) })
	r.WriteRaw("snapshot")
	r.Edit("timestamp", func(d doc) {
		d["signedAt"], d["expires"] = lie.Format(time.RFC3339), lie.Add(time.Hour).Format(time.RFC3339)
	})
	r.Bump("timestamp")
	r.WriteRaw("timestamp")
	mustUse(t, h, r)
	if got := h.State().TimeFloor; !got.Equal(lie) {
		t.Fatalf("time floor: got %s, want %s", got, lie)
	}
	r.Publish("targets", "fleet-stable")
	wantCode(t, h.refresh(r), signing.Expired)
	r.Rotate("timestamp")
	r.PublishRoot()
	r.Publish()
	mustUse(t, h, r)
	if got := h.State().TimeFloor; !got.Equal(start) {
		t.Errorf("time floor: got %s, want %s", got, start)
	}
}
