package signing_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/signing"
)

// graph is a repository whose delegations a test lays out; each role lists targets
// named after itself.
func graph(t *testing.T, lay func(r *repo)) (*repo, *host) {
	t.Helper()
	r := newRepo()
	r.Edit("targets", func(d doc) { d["delegations"] = doc{"keys": doc{}, "roles": []any{}} })
	factory := r.RootBytes(1)
	lay(r)
	r.Publish("targets")
	h := newHost(t, r)
	h.factory = factory
	h.mustRefresh(r)
	r.TakeRequests()
	return r, h
}

// node delegates paths from parent to role and lets role list names with its own
// name as content.
func node(r *repo, parent, role string, terminating bool, path string, names ...string) {
	r.Delegate(parent, role, terminating, path)
	for _, n := range names {
		r.SetTargetIn(role, n, []byte(role))
	}
	r.Write(role)
}

func TestWalkIsPreOrderAndLazy(t *testing.T) {
	r, h := graph(t, func(r *repo) {
		node(r, "targets", "a", false, "x/*")
		node(r, "targets", "d", false, "x/*", "x/1", "x/2")
		node(r, "targets", "z", false, "y/*", "x/1")
		node(r, "a", "b", false, "x/*")
		node(r, "a", "c", false, "x/*", "x/2")
		r.Write("a")
	})
	roles := func() []string {
		var out []string
		for _, p := range r.TakeRequests() {
			if s, ok := strings.CutPrefix(p, "metadata/"); ok {
				out = append(out, strings.TrimSuffix(s, ".json"))
			}
		}
		return out
	}
	b, err := h.target(r, "x/2")
	if got, want := roles(), []string{"1.a", "1.b", "1.c"}; err != nil || string(b) != "c" || !slices.Equal(got, want) {
		t.Errorf("x/2: got %q from %q, %v, want it from %q", b, got, err, want)
	}
	b, err = h.target(r, "x/1")
	if got, want := roles(), []string{"1.d"}; err != nil || string(b) != "d" || !slices.Equal(got, want) {
		t.Errorf("x/1: got %q from %q, %v, want it from %q", b, got, err, want)
	}
}

func TestTerminatingDelegationEndsTheSearch(t *testing.T) {
	r, h := graph(t, func(r *repo) {
		node(r, "targets", "a", true, "x/*")
		node(r, "targets", "d", false, "x/*", "x/1")
	})
	if _, err := h.target(r, "x/1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	r, h = graph(t, func(r *repo) { // further down, it ends the search above as well
		node(r, "targets", "a", false, "x/*")
		node(r, "targets", "d", false, "x/*", "x/1")
		node(r, "a", "b", true, "x/*")
		r.Write("a")
	})
	if _, err := h.target(r, "x/1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("below: got %v, want fs.ErrNotExist", err)
	}
}

func TestRoleSpeaksOnlyForItsPaths(t *testing.T) {
	r, h := graph(t, func(r *repo) {
		node(r, "targets", "a", false, "x/*", "x/1", "y/1", "x/sub/1", "other")
		node(r, "targets", "b", false, "[^q]z", "az")
		node(r, "b", "c", false, "x/*", "x/9") // more than b may give
		r.Write("b")
	})
	for name, want := range map[string]bool{"x/1": true, "y/1": false, "x/sub/1": false, "other": false, "az": true, "x/9": false} {
		_, err := h.target(r, name)
		if got := err == nil; got != want || !got && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want found: %v", name, err, want)
		}
	}
	names, err := h.Names(context.Background(), r, "a")
	if err != nil || !slices.Equal(names, []string{"x/1"}) {
		t.Errorf("names: got %q, %v", names, err)
	}
}

func TestEachEdgeIsCheckedWithItsOwnKeys(t *testing.T) {
	r, h := graph(t, func(r *repo) {
		node(r, "targets", "a", false, "x/*")
		node(r, "targets", "b", false, "y/*")
		node(r, "a", "shared", false, "*/*", "x/1", "y/1")
		r.Delegate("b", "shared", false, "*/*")
		r.Write("a")
		r.Write("b")
		// Now b alone comes to expect another key for the role that both share.
		stranger := r.NewKey("stranger")
		r.Edit("b", func(d doc) {
			d["delegations"].(doc)["keys"] = doc{stranger.ID: stranger.Doc}
			d["delegations"].(doc)["roles"].([]any)[0].(doc)["keyids"] = []any{stranger.ID}
		})
		r.Write("b")
	})
	for range 2 {
		if _, err := h.target(r, "x/1"); err != nil {
			t.Fatalf("through a: %v", err)
		}
		_, err := h.target(r, "y/1")
		wantCode(t, err, signing.Untrusted)
		h.restart()
	}
}

func TestWalkIsBounded(t *testing.T) {
	long := func(n int) (*repo, *host) {
		return graph(t, func(r *repo) {
			parent := "targets"
			for i := range n {
				role := fmt.Sprintf("r%d", i)
				node(r, parent, role, false, "x/*")
				r.Write(parent)
				parent = role
			}
			r.SetTargetIn(parent, "x/1", []byte("deep"))
			r.Write(parent)
		})
	}
	r, h := long(32)
	if b, err := h.target(r, "x/1"); err != nil || string(b) != "deep" {
		t.Errorf("32 delegations: got %q, %v", b, err)
	}
	r, h = long(33)
	_, err := h.target(r, "x/1")
	wantCode(t, err, signing.Untrusted)

	r, h = graph(t, func(r *repo) { // a circle
		node(r, "targets", "a", false, "x/*")
		node(r, "a", "b", false, "x/*")
		r.Delegate("b", "a", false, "x/*")
		r.Write("a")
		r.Write("b")
	})
	if _, err := h.target(r, "x/1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("circle: got %v, want fs.ErrNotExist", err)
	}
}

func TestBinsAndHashPrefixes(t *testing.T) {
	r, h := graph(t, func(r *repo) {
		r.Delegate("targets", "hashed", false)
		r.SetTargetIn("hashed", "x/1", []byte("hashed"))
		r.Write("hashed")
		r.Edit("targets", func(d doc) {
			role := d["delegations"].(doc)["roles"].([]any)[0].(doc)
			delete(role, "paths")
			role["path_hash_prefixes"] = []any{sum("x/1")[:3]}
		})
	})
	if _, err := h.target(r, "x/1"); err != nil {
		t.Errorf("prefix in hexadecimal: %v", err)
	}
	if _, err := h.target(r, "x/2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("other prefix: got %v", err)
	}

	bin := "bin-" + sum("x/1")[:1]
	r, h = graph(t, func(r *repo) {
		r.Delegate("targets", bin, false)
		r.SetTargetIn(bin, "x/1", []byte("binned"))
		r.Write(bin)
		r.Edit("targets", func(d doc) {
			delegations := d["delegations"].(doc)
			keyids := delegations["roles"].([]any)[0].(doc)["keyids"]
			delete(delegations, "roles")
			delegations["succinct_roles"] = doc{"keyids": keyids, "threshold": 1, "bit_length": 4, "name_prefix": "bin"}
		})
	})
	if b, err := h.target(r, "x/1"); err != nil || string(b) != "binned" {
		t.Errorf("bin: got %q, %v", b, err)
	}
}
