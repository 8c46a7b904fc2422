package appbuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/twinkeel/twinkeel/internal/erofs/mkfs"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// Options say what to build.
type Options struct {
	From     string // a tar of `docker save`, an OCI layout, or a reference of a registry
	Manifest string // path of app.toml
	// Publisher, Name and Version, if set, take the place of what app.toml says.
	Publisher string
	Name      string
	Version   release.Version
	Output    string // directory; made if it is missing
	Limits    Limits // zero: DefaultLimits
	// Transport carries requests to a registry; nil: the default one.
	Transport http.RoundTripper
}

// Result says what was built.
type Result struct {
	Format    int             `json:"format"`
	Publisher string          `json:"publisher"`
	Name      string          `json:"name"`
	Version   release.Version `json:"version"`
	Digest    release.Digest  `json:"digest"`
	Image     string          `json:"image"` // path of the EROFS image
	Draft     string          `json:"draft"` // path of the manifest
	Size      int64           `json:"size"`  // of the image, bytes
	Files     int             `json:"files"`
	Warnings  []string        `json:"warnings,omitempty"`
}

// saltOf returns the verity salt of an application's image. It depends on the application
// alone: the same bits have the same root in every version.
func saltOf(publisher, name string) release.Salt {
	d := sha256.Sum256([]byte("twinkeel app salt 1\x00" + publisher + "\x00" + name))
	return d[:]
}

// Build makes an application of a container image.
func Build(ctx context.Context, o Options) (r *Result, err error) {
	spec, err := o.spec()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Manifest, err)
	}
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	c, err := open(ctx, o.From, spec.Arch, o.Transport)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Output, 0o755); err != nil {
		return nil, err
	}
	spool, err := os.CreateTemp(o.Output, ".layers-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, spool.Close(), os.Remove(spool.Name())) }()
	tree, notes, err := flatten(ctx, c, spool, o.Limits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.From, err)
	}
	m, warnings, err := spec.manifest(tree, c.config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Manifest, err)
	}
	m.Image = release.Image{Name: release.AppImageName, Salt: saltOf(m.Publisher, m.Name)}
	if err := checkDraft(m); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Manifest, err)
	}
	// What lies on the paths of volumes and of what every host mounts has to be there to be
	// mounted over, as nothing can be made in the image later.
	if err := mountPoints(tree, m); err != nil {
		return nil, fmt.Errorf("%s: %w", o.From, err)
	}
	return o.write(ctx, tree, m, append(notes, warnings...))
}

func (o *Options) spec() (*Spec, error) {
	f, err := os.ReadFile(o.Manifest)
	if err != nil {
		return nil, err
	}
	s, err := ParseSpec(f)
	if err != nil {
		return nil, err
	}
	if o.Publisher != "" {
		s.Publisher = o.Publisher
	}
	if o.Name != "" {
		s.Name = o.Name
	}
	if !o.Version.IsZero() {
		s.Version = o.Version
	}
	return s, nil
}

// minImage is the smallest image that has a verity tree, in bytes.
const minImage = 2 * release.BlockSize

// placeholder stands for what publishing adds, so that the rest can be checked before.
func placeholder() release.Blob {
	return release.Blob{SHA256: release.DigestOf(nil), Size: 1, Head: release.Head{SHA256: release.DigestOf(nil), Size: 1}}
}

// checkDraft reports what publishing would refuse.
func checkDraft(m *release.AppManifest) error {
	c := *m
	c.Image.Full = placeholder()
	if c.Image.Root.IsZero() {
		c.Image.Size, c.Image.Root = release.BlockSize, release.DigestOf(nil)
	}
	_, err := c.Encode()
	return err
}

// write writes the image and the draft, each complete or not at all.
func (o *Options) write(ctx context.Context, tree *mkfs.Tree, m *release.AppManifest, warnings []string) (r *Result, err error) {
	base := filepath.Join(o.Output, m.Name+"-"+m.Version.String())
	r = &Result{Format: 1, Publisher: m.Publisher, Name: m.Name, Version: m.Version, Image: base + ".erofs",
		Draft: base + ".json", Files: tree.Len(), Warnings: warnings}
	f, err := os.CreateTemp(o.Output, ".image-*")
	if err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if !done {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if r.Size, err = mkfs.Write(ctx, f, tree, mkfs.Options{Time: time.Unix(0, 0)}); err != nil {
		return nil, err
	}
	if r.Size < minImage {
		r.Size = minImage
		if err := f.Truncate(r.Size); err != nil {
			return nil, err
		}
	}
	if r.Size > release.MaxImageSize {
		return nil, fmt.Errorf("image: got %d bytes, want at most %d", r.Size, int64(release.MaxImageSize))
	}
	m.Image.Size = r.Size
	if m.Image.Root, err = verity.Root(f, r.Size, m.Image.Salt); err != nil {
		return nil, err
	}
	if r.Digest, err = m.Digest(); err != nil {
		return nil, err
	}
	draft, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync()); err != nil {
		return nil, err
	}
	if err := os.Rename(f.Name(), r.Image); err != nil {
		return nil, err
	}
	done = true
	if err := f.Close(); err != nil {
		return nil, err
	}
	return r, os.WriteFile(r.Draft, append(draft, '\n'), 0o644)
}

// ReadDraft reads what Build wrote, or what somebody made of it.
func ReadDraft(b []byte) (*release.AppManifest, error) {
	if len(b) > release.MaxAppManifestSize {
		return nil, fmt.Errorf("draft: got %d bytes, want at most %d", len(b), release.MaxAppManifestSize)
	}
	var m release.AppManifest
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("draft: %w", err)
	}
	if err := checkDraft(&m); err != nil {
		return nil, fmt.Errorf("draft: %w", err)
	}
	return &m, nil
}

// mountPoints makes the directories that an application's runtime mounts over.
func mountPoints(tree *mkfs.Tree, m *release.AppManifest) error {
	f := &flattener{tree: tree, limits: Limits{Files: 1 << 20}}
	paths := []string{"proc", "sys", "dev", "tmp", "run"}
	for _, v := range m.Data {
		paths = append(paths, v.Path[1:])
	}
	for _, p := range paths {
		if _, err := f.directory(p); err != nil {
			return fmt.Errorf("/%s: a host has to mount something there: %w", p, err)
		}
	}
	return nil
}
