package signing_test

import (
	"context"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/signing"
)

func TestInteropAllowsWhatTheProfileForbids(t *testing.T) {
	r := newRepo()
	r.Delegate("targets", "Some/Role ?", false, "free/*")
	r.SetTargetIn("Some/Role ?", "free/A target", []byte("x"))
	r.Edit("snapshot", func(d doc) { d["meta"].(doc)["other.json"] = doc{"version": 1} })
	r.Edit("targets", func(d doc) { d["note"] = nil })
	r.Write("Some/Role ?")
	r.Publish("targets")
	h := newHost(t, r)
	wantCode(t, use(h, r), signing.Untrusted)
	r.SetFile("metadata/1.Some%2FRole%20%3F.json", r.File("metadata/1.Some/Role ?.json"))
	c, err := signing.Open(signing.Config{Dir: newDisk(), Factory: h.factory, Now: func() time.Time { return start }, Interop: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Refresh(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Target(context.Background(), r, "free/A target", 10); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
}

// The metadata library panics on nulls, which only Interop lets through to it.
func TestInteropTurnsPanicsOfTheParserIntoErrors(t *testing.T) {
	nulls := map[string]func(r *repo){
		"root": func(r *repo) { r.Edit("root", func(d doc) { d["roles"].(doc)["targets"] = nil }); r.PublishRoot() },
		"root key": func(r *repo) {
			r.Edit("root", func(d doc) { d["keys"].(doc)[r.Keys("root")[0].ID] = nil })
			r.PublishRoot()
		},
		"timestamp": func(r *repo) { r.Edit("timestamp", func(d doc) { d["meta"] = nil }); r.Publish() },
		"snapshot": func(r *repo) {
			r.Edit("snapshot", func(d doc) { d["meta"].(doc)["targets.json"] = nil })
			r.Bump("snapshot")
			r.Write("snapshot")
			r.Bump("timestamp")
			r.Write("timestamp")
		},
		"targets": func(r *repo) { r.Edit("targets", func(d doc) { d["targets"].(doc)["x"] = nil }); r.Publish("targets") },
	}
	for name, spoil := range nulls {
		t.Run(name, func(t *testing.T) {
			r := newRepo()
			c, err := signing.Open(signing.Config{Dir: newDisk(), Factory: r.RootBytes(1), Now: func() time.Time { return start }, Interop: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Refresh(context.Background(), r); err != nil {
				t.Fatal(err)
			}
			evil := r.Clone()
			spoil(evil)
			wantCode(t, c.Refresh(context.Background(), evil), signing.Untrusted)
			r.Publish("targets") // past the versions that the evil one has used up
			r.Publish("targets")
			if err := c.Refresh(context.Background(), r); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}
