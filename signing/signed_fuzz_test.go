package signing_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/signingtest"
)

// fuzzSigned publishes a changed document under name, properly signed, lets a host take
// it, and gives what the host hands over to decode: that is how a publisher's mistake,
// or a thief of keys, reaches the code behind all signatures.
func fuzzSigned(f *testing.F, name, role string, document any, decode func(t *testing.T, b []byte)) {
	for step := range byte(4) {
		f.Add([]byte{step}, []byte(nil))
		f.Add([]byte{3, 0, step, 2}, []byte(nil))
		f.Add([]byte{9, 2, step, 7, 5, 3, step, 8}, []byte(nil))
	}
	b, err := json.Marshal(document)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil), b)
	honest := newRepo()
	f.Fuzz(func(t *testing.T, steps, content []byte) {
		if len(content) == 0 {
			if content, err = json.Marshal(signingtest.Mutate(document, steps)); err != nil {
				t.Fatal(err)
			}
		}
		r := honest.Clone()
		r.SetTarget(name, content)
		r.Publish(role)
		h := newHost(t, r)
		if err := h.refresh(r); err != nil {
			t.Fatal(err)
		}
		got, err := h.target(r, name)
		if len(content) > 1<<20 {
			if err == nil {
				t.Fatal("a target beyond the limit was handed over")
			}
			return
		}
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("got %q, %v, want %q", got, err, content)
		}
		decode(t, got)
	})
}

// FuzzSignedManifest: whatever is signed, a manifest that decodes has one spelling and
// sizes within the limits.
func FuzzSignedManifest(f *testing.F) {
	digest := func(i byte) release.Digest { return release.DigestOf([]byte{i}) }
	version, err := release.ParseVersion("2")
	if err != nil {
		f.Fatal(err)
	}
	blob := func(i byte, n int64) release.Blob {
		return release.Blob{SHA256: digest(i), Size: n, Head: release.Head{SHA256: digest(i + 1), Size: 200}}
	}
	m := release.Manifest{Format: 1, Version: version, Compatible: "example-amd64", Epoch: 1, Attempt: 1, MinUpdater: version,
		Images: []release.Image{{Name: "boot", Size: 8192, Root: digest(1), Full: blob(2, 5000)}, {Name: "root", Size: 1 << 20, Root: digest(4), Full: blob(5, 500_000)}},
		Deltas: []release.Delta{{Image: "root", From: digest(7), Blob: blob(8, 1234)}}, Meta: map[string]string{"notes": "x"}}
	if _, err := m.Encode(); err != nil {
		f.Fatal(err)
	}
	fuzzSigned(f, manifestName, "os-stable", m, func(t *testing.T, b []byte) {
		m, err := release.DecodeManifest(b)
		if err != nil {
			return
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%v: got %s, want %s", err, again, b)
		}
		for _, image := range m.Images {
			if image.Size < 1 || image.Size > 64<<30 || image.Full.Size < 1 {
				t.Fatalf("image %+v: a size is beyond the limits", image)
			}
		}
	})
}

// FuzzSignedDirective is the same for the directive.
func FuzzSignedDirective(f *testing.F) {
	version, err := release.ParseVersion("2")
	if err != nil {
		f.Fatal(err)
	}
	d := release.Directive{Format: 1, Channel: "stable", Version: version, Permille: 500, Salt: "s", NotBefore: start.Add(time.Hour)}
	if _, err := d.Encode(); err != nil {
		f.Fatal(err)
	}
	fuzzSigned(f, directiveName, "fleet-stable", d, func(t *testing.T, b []byte) {
		d, err := release.DecodeDirective(b)
		if err != nil {
			return
		}
		if again, err := d.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%v: got %s, want %s", err, again, b)
		}
		if d.Permille < 0 || d.Permille > 1000 {
			t.Fatalf("permille: got %d", d.Permille)
		}
	})
}

// FuzzSignedDelegation changes the delegated role itself, and what targets delegates,
// and signs both again: the host answers with a code or with content that is listed.
func FuzzSignedDelegation(f *testing.F) {
	f.Add(true, []byte{3, 0, 0, 2})
	f.Add(false, []byte{7, 2, 1, 0, 11, 3, 2, 9})
	honest := newRepo()
	f.Fuzz(func(t *testing.T, delegator bool, steps []byte) {
		role := "os-stable"
		if delegator {
			role = "targets"
		}
		r := honest.Clone()
		r.Bump(role)
		r.Edit(role, func(d doc) {
			mutated, ok := signingtest.Mutate(d, steps).(doc)
			if !ok {
				return
			}
			clear(d)
			for k, v := range mutated {
				d[k] = v
			}
			d["version"] = 2 + len(steps)%2
		})
		r.WriteRaw(role)
		r.Publish()
		h := newHost(t, r)
		err := use(h, r)
		h.restart()
		if again := use(h, r); (err == nil) != (again == nil) {
			t.Fatalf("got %v, and after a restart %v", err, again)
		}
	})
}
