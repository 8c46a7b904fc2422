package apps

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// containers writes a container image of notes as a tar, as an OCI layout and into a
// registry, and returns what app build calls each of them.
func containers(t *testing.T, program []byte, kind string) []string {
	t.Helper()
	img, err := container(program, kind)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, tree := filepath.Join(dir, "notes.tar"), filepath.Join(dir, "layout")
	tag, err := name.NewTag("notes:1")
	if err == nil {
		err = tarball.WriteToFile(file, tag, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := layout.Write(tree, empty.Index)
	if err == nil {
		err = p.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/acme/notes:1")
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return []string{file, tree, ref.Name()}
}

// container is an image of two layers: the program, and what makes it one version.
func container(program []byte, kind string) (v1.Image, error) {
	base, err := layer(map[string][]byte{"bin/notes": program})
	if err != nil {
		return nil, err
	}
	top, err := layer(map[string][]byte{"etc/notes": []byte(kind + "\n"), "etc/passwd": []byte("notes:x:1000:1000::/:/bin/notes\n")})
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, base, top)
	if err != nil {
		return nil, err
	}
	c, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", "amd64"
	c.Config = v1.Config{
		Entrypoint: []string{"/bin/notes"}, User: "notes", Env: []string{"PATH=/bin"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}}, Volumes: map[string]struct{}{"/data": {}},
	}
	return mutate.ConfigFile(img, c)
}

func layer(files map[string][]byte) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		body := files[path]
		if err := w.WriteHeader(&tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(body))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(body); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
}
