package appbuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// maxDocument bounds what describes an image: an index, a manifest or a configuration.
const maxDocument = 4 << 20

// container is a container image with its configuration, compared with its digest.
type container struct {
	image  v1.Image
	config *v1.ConfigFile
}

// open opens the container image that from names: a directory is an OCI layout, a file a
// tar of `docker save`, anything else a reference of a registry.
func open(ctx context.Context, from, arch string, transport http.RoundTripper) (*container, error) {
	st, err := os.Stat(from)
	var img v1.Image
	switch {
	case err == nil && st.IsDir():
		img, err = fromLayout(from, arch)
	case err == nil:
		img, err = tarball.ImageFromPath(from, nil)
	case errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(from, "/") && !strings.HasPrefix(from, "."):
		img, err = fromRegistry(ctx, from, arch, transport)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", from, err)
	}
	c := &container{image: img}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("open %s: %w", from, err)
	}
	if c.config.OS != "" && c.config.OS != "linux" {
		return nil, fmt.Errorf("open %s: it is an image for %s, want linux", from, c.config.OS)
	}
	if arch != "" && arch != "any" && c.config.Architecture != "" && c.config.Architecture != arch {
		return nil, fmt.Errorf("open %s: it is an image for %s, want %s", from, c.config.Architecture, arch)
	}
	return c, nil
}

// read reads the configuration. A layout's files are not compared with their names by
// whoever opens it.
func (c *container) read() error {
	m, err := c.image.Manifest()
	if err != nil {
		return err
	}
	if m.Config.Size > maxDocument {
		return fmt.Errorf("configuration: got %d bytes, want at most %d", m.Config.Size, maxDocument)
	}
	raw, err := c.image.RawConfigFile()
	if err != nil {
		return err
	}
	if err := is(raw, m.Config.Digest); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if c.config, err = c.image.ConfigFile(); err != nil {
		return err
	}
	if got, want := len(m.Layers), len(c.config.RootFS.DiffIDs); got != want {
		return fmt.Errorf("got %d layers, and its configuration names %d", got, want)
	}
	return nil
}

func is(b []byte, want v1.Hash) error {
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); want.Algorithm != "sha256" || got != want.Hex {
		return fmt.Errorf("digest: got sha256:%s, want %s", got, want)
	}
	return nil
}

// fromLayout opens the one image of an OCI layout, or the one for a processor.
func fromLayout(dir, arch string) (v1.Image, error) {
	if st, err := os.Stat(filepath.Join(dir, "index.json")); err != nil || st.Size() > maxDocument {
		return nil, errors.Join(err, fmt.Errorf("index.json: want an OCI layout with an index of at most %d bytes", maxDocument))
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	return choose(index, arch, 0)
}

// choose takes the image for a processor out of an index and those within it.
func choose(index v1.ImageIndex, arch string, depth int) (v1.Image, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var found []v1.Descriptor
	var platforms []string
	for _, d := range m.Manifests {
		if d.Platform != nil && (d.Platform.OS != "linux" || arch != "" && arch != "any" && d.Platform.Architecture != arch) {
			continue // another processor, or an attestation
		}
		if d.Size > maxDocument || !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
			continue
		}
		found = append(found, d)
		if d.Platform != nil {
			platforms = append(platforms, d.Platform.Architecture)
		}
	}
	if len(found) != 1 {
		slices.Sort(platforms)
		return nil, fmt.Errorf("it holds %d images that could be meant (%s): want one; name its processor as arch", len(found), strings.Join(platforms, ", "))
	}
	if found[0].MediaType.IsIndex() {
		if depth > 3 {
			return nil, errors.New("indexes lie in one another too deeply")
		}
		inner, err := index.ImageIndex(found[0].Digest)
		if err != nil {
			return nil, err
		}
		return choose(inner, arch, depth+1)
	}
	img, err := index.Image(found[0].Digest)
	if err != nil {
		return nil, err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	if err := is(raw, found[0].Digest); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return img, nil
}

// fromRegistry opens an image by its reference, with the credentials of the user's
// container tools, if there are any.
func fromRegistry(ctx context.Context, from, arch string, transport http.RoundTripper) (v1.Image, error) {
	ref, err := name.ParseReference(from)
	if err != nil {
		return nil, fmt.Errorf("no such file or directory, and no reference of a registry: %w", err)
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if transport != nil {
		options = append(options, remote.WithTransport(transport))
	}
	d, err := remote.Get(ref, options...)
	if err != nil {
		return nil, err
	}
	if !d.MediaType.IsIndex() {
		return d.Image()
	}
	index, err := d.ImageIndex()
	if err != nil {
		return nil, err
	}
	return choose(index, arch, 0)
}
