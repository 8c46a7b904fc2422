package signing_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/twinkeel/twinkeel/signing"
)

func TestReasonOfAWithdrawalReachesTheHostSigned(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	mustUse(t, h, r)
	if w, ok := h.Withdrawn(manifestName); ok {
		t.Fatalf("before: got %+v", w)
	}
	r.Edit("os-stable", func(d doc) {
		delete(d["targets"].(doc), manifestName)
		d[signing.WithdrawnField] = doc{manifestName: doc{"reason": "eats disks", "time": "2026-11-21T09:00:00Z"}}
	})
	r.Publish("os-stable")
	if err := h.refresh(r); err != nil {
		t.Fatal(err)
	}
	if _, err := h.target(r, manifestName); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want %v", err, fs.ErrNotExist)
	}
	for range 2 {
		w, ok := h.Withdrawn(manifestName)
		if !ok || w.Reason != "eats disks" || w.Time.Hour() != 9 {
			t.Fatalf("got %+v, %t", w, ok)
		}
		if _, ok := h.Withdrawn("os/stable/example-amd64/7.json"); ok {
			t.Error("another release was withdrawn")
		}
		h.restart()
	}
	// Nonsense in that place harms nobody.
	r.Edit("os-stable", func(d doc) { d[signing.WithdrawnField] = []any{"x"} })
	r.Publish("os-stable")
	if err := h.refresh(r); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Withdrawn(manifestName); ok {
		t.Error("a reason came out of nonsense")
	}
}
