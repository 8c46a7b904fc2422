package signing_test

import (
	"bytes"
	"context"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/signing"
)

var update = flag.Bool("update", false, "write testdata/tuf anew")

// goldenDir holds a repository and the state of a host that has used it. They pin the
// formats: a state that this code has written must stay readable for good, as a host
// may be booted with an older or a newer agent.
const goldenDir = "../testdata/tuf"

// goldenParts are the directories below goldenDir that this code writes.
var goldenParts = []string{"repository", "trust"}

// goldenFiles makes both, by path below goldenDir.
func goldenFiles(t *testing.T) map[string][]byte {
	r := newRepo()
	h := newHost(t, r)
	mustUse(t, h, r)
	r.Rotate("timestamp")
	r.PublishRoot()
	r.SetTarget("os/stable/example-amd64/2.json", []byte(`{"release":2}`))
	r.Publish("os-stable")
	mustUse(t, h, r)
	out := map[string][]byte{}
	for path, b := range r.Files() {
		out["repository/"+path] = b
	}
	for name, b := range h.disk.files {
		out["trust/"+name] = b
	}
	return out
}

func TestFormatsAreThoseOfTheGoldenFiles(t *testing.T) {
	want := goldenFiles(t)
	if *update {
		for _, part := range goldenParts {
			if err := os.RemoveAll(filepath.Join(goldenDir, part)); err != nil {
				t.Fatal(err)
			}
		}
		for name, b := range want {
			path := filepath.Join(goldenDir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := map[string][]byte{}
	for _, part := range goldenParts {
		for name, b := range readGolden(t, part) {
			got[part+"/"+name] = b
		}
	}
	if !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("golden files differ from what is written now:\n got %q\nwant %q",
			slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// readGolden returns the files below a directory of the golden files.
func readGolden(t *testing.T, below string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	fsys := os.DirFS(filepath.Join(goldenDir, below))
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(fsys, path)
		out[path] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGoldenStateIsReadAndDefended(t *testing.T) {
	files := readGolden(t, "repository")
	open := func(d *disk) *signing.Client {
		c, err := signing.Open(signing.Config{Dir: d, Factory: files["metadata/1.root.json"], Now: func() time.Time { return start }})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open(&disk{files: readGolden(t, "trust")})
	for name, want := range map[string]string{manifestName: `{"release":1}`, directiveName: `{"directive":1}`} {
		if b, err := c.Target(context.Background(), nil, name, 1<<20); err != nil || string(b) != want {
			t.Errorf("%s: got %q, %v", name, b, err)
		}
	}
	// The floors alone still defend: of the roles nothing is left, and the repository
	// is one that this host has left behind.
	d := &disk{files: readGolden(t, "trust")}
	maps.DeleteFunc(d.files, func(name string, _ []byte) bool { return name != "floor.0" && name != "floor.1" })
	older := newRepo()
	wantCode(t, open(d).Refresh(context.Background(), older), signing.RootWithheld)
	if st := open(d).State(); st.RootFloor != 2 {
		t.Errorf("root floor: got %d, want 2", st.RootFloor)
	}
}
