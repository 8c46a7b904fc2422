package release

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// Limits on what a manifest may say. They bound what a host reads and allocates
// before it has looked at a single payload byte.
const (
	MaxManifestSize = 1 << 20 // bytes of an encoded manifest
	MaxImageSize    = 64 << 30
	MaxHeadSize     = 8 << 20
	MaxImages       = 8
	MaxDeltas       = 4096
	MaxApps         = 256
	BlockSize       = 4096 // the unit of images: a verity data block
)

// ManifestFormat is the manifest format that this code writes and reads.
const ManifestFormat = 1

// Manifest describes one release. Source of the format: docs/FORMAT.md, "Manifest".
type Manifest struct {
	Format     int     `json:"format"`
	Version    Version `json:"version"`
	Compatible string  `json:"compatible"`
	// Epoch is the security epoch. A host never installs by itself a release whose
	// epoch is below the highest one it has committed.
	Epoch uint64 `json:"epoch"`
	// Attempt offers the same bits again to hosts that have denied them: a denial
	// covers attempts up to the one that failed.
	Attempt    uint64            `json:"attempt"`
	MinUpdater Version           `json:"minUpdater"`
	Images     []Image           `json:"images"`
	Deltas     []Delta           `json:"deltas"`
	Apps       []App             `json:"apps"`
	Meta       map[string]string `json:"meta"`
}

// Image is one partition's content. Its identity is the root of its verity tree.
type Image struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes, a multiple of BlockSize
	Root Digest `json:"root"` // dm-verity root: SHA-256, 4 KiB blocks, Salt
	Salt Salt   `json:"salt"`
	Full Blob   `json:"full"` // the whole image as a container without a base
	// Blocks, if not zero, is the image's block map (package deltas/blocks), by which a host
	// fetches what it lacks, whatever it runs.
	Blocks Blob `json:"blocks,omitzero"`
}

// Delta leads from the image whose root is From to the image called Image.
type Delta struct {
	Image string `json:"image"`
	From  Digest `json:"from"`
	Blob
}

// Blob is a content-addressed payload: a container whose first Head.Size bytes are
// its head, which holds the digest of every segment behind it.
type Blob struct {
	SHA256 Digest `json:"sha256"`
	Size   int64  `json:"size"`
	Head   Head   `json:"head"`
}

// Head is the digest and length in bytes of a container's head.
type Head struct {
	SHA256 Digest `json:"sha256"`
	Size   int64  `json:"size"`
}

// App is an application that belongs to the release. Publisher, name and version say where
// its manifest is (AppTargetName), Digest which application it has to be
// (AppManifest.Digest).
type App struct {
	Publisher string `json:"publisher"`
	Name      string `json:"name"` // no two apps of a release share it
	Version   string `json:"version"`
	Digest    Digest `json:"digest"`
}

// Salt is the salt of a verity tree, 0 to 32 bytes, written as hexadecimal.
type Salt []byte

// MarshalText implements encoding.TextMarshaler.
func (s Salt) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Salt) UnmarshalText(b []byte) error {
	if len(b) > 64 {
		return fmt.Errorf("salt: got %d hexadecimal digits, want at most 64", len(b))
	}
	p, err := hex.DecodeString(string(b))
	if err != nil {
		return fmt.Errorf("salt %q: %w", b, err)
	}
	*s = p
	return nil
}

// BlobPath is where a repository keeps the payload with digest d, relative to its base URL.
func BlobPath(d Digest) string { return "blobs/sha256/" + d.String() }

// TargetName is the TUF target name of a release's manifest.
func TargetName(channel, compatible string, v Version) string {
	return "os/" + channel + "/" + compatible + "/" + v.String() + ".json"
}

// Encode returns the canonical bytes of m, or why m is not a valid manifest.
func (m *Manifest) Encode() ([]byte, error) {
	c := *m
	// A nil slice would be written as null, which is a second spelling of "none".
	if c.Images == nil {
		c.Images = []Image{}
	}
	if c.Deltas == nil {
		c.Deltas = []Delta{}
	}
	if c.Apps == nil {
		c.Apps = []App{}
	}
	if c.Meta == nil {
		c.Meta = map[string]string{}
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("encode manifest %s: %w", m.Version, err)
	}
	return encode(&c)
}

// DecodeManifest reads a canonical manifest. The bytes need not come from a friend:
// every limit of this package is checked before it returns.
func DecodeManifest(b []byte) (*Manifest, error) {
	var m Manifest
	if err := decode(b, MaxManifestSize, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if m.Images == nil || m.Deltas == nil || m.Apps == nil || m.Meta == nil {
		return nil, fmt.Errorf("manifest: a list or map is null")
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return &m, nil
}

// Image returns the image called name.
func (m *Manifest) Image(name string) (Image, bool) {
	for _, i := range m.Images {
		if i.Name == name {
			return i, true
		}
	}
	return Image{}, false
}

// Delta returns the delta that leads from the image with root from to the image
// called name.
func (m *Manifest) Delta(name string, from Digest) (Delta, bool) {
	for _, d := range m.Deltas {
		if d.Image == name && d.From == from {
			return d, true
		}
	}
	return Delta{}, false
}

// Deployment is the digest of what the release makes a host run: the roots of its
// images and the digests of its applications, whatever version, rollout or deltas
// surround them. Denials are by this digest.
func (m *Manifest) Deployment() Digest {
	h := sha256.New()
	put := func(s string, d Digest) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
		h.Write(d[:])
	}
	put("twinkeel deployment 1", Digest{})
	for _, i := range m.Images {
		put("image/"+i.Name, i.Root)
	}
	for _, a := range m.Apps {
		put("app/"+a.Name, a.Digest)
	}
	return Digest(h.Sum(nil))
}

// Validate reports the first thing in m that no valid manifest says. Images, deltas
// and apps are sorted by name, so that a release has one spelling.
func (m *Manifest) Validate() error {
	if m.Format != ManifestFormat {
		return fmt.Errorf("format: got %d, want %d", m.Format, ManifestFormat)
	}
	if m.Version.IsZero() {
		return fmt.Errorf("version is missing")
	}
	if err := CheckName("compatible", m.Compatible); err != nil {
		return err
	}
	if m.Attempt < 1 {
		return fmt.Errorf("attempt: got %d, want at least 1", m.Attempt)
	}
	if m.MinUpdater.IsZero() {
		return fmt.Errorf("minUpdater is missing")
	}
	if err := m.validateImages(); err != nil {
		return err
	}
	if err := m.validateDeltas(); err != nil {
		return err
	}
	return m.validateApps()
}

func (m *Manifest) validateImages() error {
	if n := len(m.Images); n < 1 || n > MaxImages {
		return fmt.Errorf("images: got %d, want 1 to %d", n, MaxImages)
	}
	for i, img := range m.Images {
		if err := CheckName("image name", img.Name); err != nil {
			return err
		}
		if i > 0 && m.Images[i-1].Name >= img.Name {
			return fmt.Errorf("image %s: images are not sorted by name, or one stands twice", img.Name)
		}
		if img.Size <= 0 || img.Size > MaxImageSize || img.Size%BlockSize != 0 {
			return fmt.Errorf("image %s: size: got %d, want a multiple of %d from 1 block to %d bytes", img.Name, img.Size, BlockSize, int64(MaxImageSize))
		}
		if img.Root.IsZero() {
			return fmt.Errorf("image %s: root is missing", img.Name)
		}
		if len(img.Salt) > 32 {
			return fmt.Errorf("image %s: salt: got %d bytes, want at most 32", img.Name, len(img.Salt))
		}
		if err := img.Full.validate(); err != nil {
			return fmt.Errorf("image %s: full: %w", img.Name, err)
		}
		if img.Blocks != (Blob{}) {
			if err := img.Blocks.validate(); err != nil {
				return fmt.Errorf("image %s: blocks: %w", img.Name, err)
			}
		}
	}
	return nil
}

func (m *Manifest) validateDeltas() error {
	if n := len(m.Deltas); n > MaxDeltas {
		return fmt.Errorf("deltas: got %d, want at most %d", n, MaxDeltas)
	}
	for i, d := range m.Deltas {
		img, ok := m.Image(d.Image)
		if !ok {
			return fmt.Errorf("delta %d: no image is called %q", i, d.Image)
		}
		if d.From.IsZero() || d.From == img.Root {
			return fmt.Errorf("delta %d: from %s is not another image", i, d.From)
		}
		if i > 0 && deltaKey(m.Deltas[i-1]) >= deltaKey(d) {
			return fmt.Errorf("delta %d: deltas are not sorted by image and from, or one stands twice", i)
		}
		if err := d.Blob.validate(); err != nil {
			return fmt.Errorf("delta of %s from %s: %w", d.Image, d.From.Short(), err)
		}
	}
	return nil
}

func deltaKey(d Delta) string { return d.Image + "/" + d.From.String() }

func (m *Manifest) validateApps() error {
	if n := len(m.Apps); n > MaxApps {
		return fmt.Errorf("apps: got %d, want at most %d", n, MaxApps)
	}
	for i, a := range m.Apps {
		if err := CheckName("app name", a.Name); err != nil {
			return err
		}
		if err := CheckName("app "+a.Name+": publisher", a.Publisher); err != nil {
			return err
		}
		if i > 0 && m.Apps[i-1].Name >= a.Name {
			return fmt.Errorf("app %s: apps are not sorted by name, or one stands twice", a.Name)
		}
		if _, err := ParseVersion(a.Version); err != nil {
			return fmt.Errorf("app %s: %w", a.Name, err)
		}
		if a.Digest.IsZero() {
			return fmt.Errorf("app %s: digest is missing", a.Name)
		}
	}
	return nil
}

func (b Blob) validate() error {
	switch {
	case b.SHA256.IsZero() || b.Head.SHA256.IsZero():
		return fmt.Errorf("a digest is missing")
	case b.Head.Size < 1 || b.Head.Size > MaxHeadSize:
		return fmt.Errorf("head size: got %d, want 1 to %d", b.Head.Size, MaxHeadSize)
	case b.Size < b.Head.Size || b.Size > 2*MaxImageSize:
		return fmt.Errorf("size: got %d, want %d to %d", b.Size, b.Head.Size, int64(2*MaxImageSize))
	}
	return nil
}

// CheckName refuses a name that could mean something to a path, a URL, a shell, a
// unit file or a terminal: 1 to 64 of [a-z0-9._-], beginning with a letter or digit.
func CheckName(what, s string) error {
	if len(s) < 1 || len(s) > 64 {
		return fmt.Errorf("%s %.80q: got %d characters, want 1 to 64", what, s, len(s))
	}
	if strings.ContainsAny(s[:1], "._-") {
		return fmt.Errorf("%s %q: begins with %q", what, s, s[0])
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("%s %q: character %d is not one of a-z, 0-9, '.', '_', '-'", what, s, i)
		}
	}
	return nil
}
