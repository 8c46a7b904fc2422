package sim

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/deltas/blocks/build"
	"github.com/twinkeel/twinkeel/deltas/diff"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// The names that the repository of a Publisher uses.
const (
	Channel    = "stable"
	Compatible = "sim"
)

// Publisher makes, in memory, the signed repository that a Net serves: real metadata,
// real containers. Its keys are always the same.
type Publisher struct {
	Expires time.Time // of everything that is signed

	coders diff.Coders
	set    *publisher.Set
	ring   *publisher.Ring
	files  map[string][]byte
	root   []byte
}

// NewPublisher makes a repository without releases. It keeps its keys in dir, which is
// an empty directory.
func NewPublisher(dir string, expires time.Time) (*Publisher, error) {
	p := &Publisher{Expires: expires, files: map[string][]byte{}}
	keys, names := map[string]publisher.Authority{}, map[string]string{}
	for _, name := range []string{"root", "targets", "release", "online"} {
		key, err := seededKey(name)
		if err != nil {
			return nil, err
		}
		if err := publisher.SaveKey(dir, name, key, nil); err != nil {
			return nil, err
		}
		keys[name] = publisher.Authority{Keys: []publisher.PublicKey{key.Public}, Threshold: 1}
		names[key.Public.ID] = name
	}
	var err error
	if p.ring, err = publisher.OpenRing(nil, dir); err != nil {
		return nil, err
	}
	set, files, err := publisher.New(publisher.Plan{
		Root: keys["root"], Targets: keys["targets"], Snapshot: keys["online"], Timestamp: keys["online"],
		Channels: []publisher.Channel{{Name: Channel, Releases: keys["release"], Fleet: keys["online"]}},
		Names:    names,
		Expires:  func(string) time.Time { return expires },
	}, p.ring)
	if err != nil {
		return nil, err
	}
	p.set = set
	if err := set.AddPublisher(AppPublisher, keys["release"], nil); err != nil {
		return nil, err
	}
	for _, role := range []string{"targets", publisher.AppRole(AppPublisher)} {
		if err := set.Sign(role, expires, p.ring); err != nil {
			return nil, err
		}
	}
	p.put(files)
	if files, err = set.Seal(p.ring, publisher.Online{Snapshot: expires, Timestamp: expires}, false); err != nil {
		return nil, err
	}
	p.put(files)
	p.root = p.files["metadata/1.root.json"]
	return p, nil
}

func seededKey(name string) (*publisher.PrivateKey, error) {
	seed := release.DigestOf([]byte(name))
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		return nil, err
	}
	return publisher.ParsePrivate(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil)
}

func (p *Publisher) put(files []publisher.File) {
	for _, f := range files {
		p.files[f.Path] = f.Data
	}
}

// Root is the first root metadata, which a factory puts on a host.
func (p *Publisher) Root() []byte { return p.root }

// Files returns the repository as it is now, path to content.
func (p *Publisher) Files() map[string][]byte { return maps.Clone(p.files) }

// Spec says what a release is made of.
type Spec struct {
	Version   string
	Images    map[string][]byte // by name
	From      []*Release        // releases to make deltas from
	Blocks    bool              // make block maps, too
	Behaviour Behaviour
	Epoch     uint64
	Attempt   uint64 // 0: 1
	Apps      []*App // that it brings, sorted by name
}

// Release makes containers and manifest and signs the release.
func (p *Publisher) Release(s Spec) (*Release, error) {
	version, err := release.ParseVersion(s.Version)
	if err != nil {
		return nil, err
	}
	updater, err := release.ParseVersion("0.1")
	if err != nil {
		return nil, err
	}
	m := &release.Manifest{Format: release.ManifestFormat, Version: version, Compatible: Compatible,
		Epoch: s.Epoch, Attempt: max(1, s.Attempt), MinUpdater: updater}
	for _, a := range s.Apps {
		m.Apps = append(m.Apps, release.App{Publisher: AppPublisher, Name: a.Manifest.Name, Version: a.Manifest.Version.String(), Digest: a.Digest})
	}
	r := &Release{Manifest: m, Behaviour: s.Behaviour, parts: map[string][]byte{}}
	for _, name := range slices.Sorted(maps.Keys(s.Images)) {
		if err := p.image(r, name, s); err != nil {
			return nil, fmt.Errorf("release %s: image %s: %w", s.Version, name, err)
		}
	}
	slices.SortFunc(m.Deltas, func(a, b release.Delta) int {
		return strings.Compare(a.Image+"/"+a.From.String(), b.Image+"/"+b.From.String())
	})
	b, err := m.Encode()
	if err != nil {
		return nil, err
	}
	return r, p.target(publisher.OSRole(Channel), release.TargetName(Channel, Compatible, version), b)
}

// image adds one image to a release, whole and as deltas.
func (p *Publisher) image(r *Release, name string, s Spec) error {
	image := s.Images[name]
	salt := release.Salt(bytes.Repeat([]byte{0xa5}, 16))
	part, root, err := withTree(image, salt)
	if err != nil {
		return err
	}
	r.parts[name] = part
	full, err := p.container(nil, image, salt)
	if err != nil {
		return err
	}
	r.Manifest.Images = append(r.Manifest.Images, release.Image{Name: name, Size: int64(len(image)), Root: root, Salt: salt, Full: full})
	if s.Blocks {
		if err := p.blocks(r, image, salt); err != nil {
			return err
		}
	}
	for _, from := range s.From {
		old, ok := from.Manifest.Image(name)
		twice := func(d release.Delta) bool { return d.Image == name && d.From == old.Root }
		if !ok || old.Root == root || slices.ContainsFunc(r.Manifest.Deltas, twice) {
			continue
		}
		blob, err := p.delta(old, from.image(name), image, salt)
		if err != nil {
			return err
		}
		r.Manifest.Deltas = append(r.Manifest.Deltas, release.Delta{Image: name, From: old.Root, Blob: blob})
	}
	return nil
}

// delta makes the container that leads from an image to another one.
func (p *Publisher) delta(old release.Image, from, to []byte, salt release.Salt) (release.Blob, error) {
	return p.container(&diff.Source{Reader: bytes.NewReader(from), Size: old.Size, Salt: old.Salt}, to, salt)
}

func (p *Publisher) container(old *diff.Source, image []byte, salt release.Salt) (release.Blob, error) {
	var out bytes.Buffer
	made, err := diff.Create(context.Background(), old, &diff.Source{Reader: bytes.NewReader(image), Size: int64(len(image)), Salt: salt}, &out, diff.Options{Threads: 1, Coders: &p.coders})
	if err != nil {
		return release.Blob{}, err
	}
	p.files[release.BlobPath(made.Blob.SHA256)] = out.Bytes()
	return made.Blob, nil
}

// blocks adds a block map to the last image of a release.
func (p *Publisher) blocks(r *Release, image []byte, salt release.Salt) error {
	var out bytes.Buffer
	blob, err := build.Create(context.Background(), &diff.Source{Reader: bytes.NewReader(image), Size: int64(len(image)), Salt: salt},
		&out, build.Options{Threads: 1})
	if err != nil {
		return err
	}
	p.files[release.BlobPath(blob.SHA256)] = out.Bytes()
	r.Manifest.Images[len(r.Manifest.Images)-1].Blocks = blob
	return nil
}

// Direct signs the directive that sends the whole fleet to a release; change, if not
// nil, may say otherwise.
func (p *Publisher) Direct(r *Release, change func(*release.Directive)) error {
	d := release.Directive{Format: release.DirectiveFormat, Channel: Channel, Version: r.Manifest.Version, Permille: 1000,
		Salt: r.Manifest.Version.String(), NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
	if change != nil {
		change(&d)
	}
	b, err := d.Encode()
	if err != nil {
		return err
	}
	return p.target(publisher.FleetRole(Channel), release.DirectiveName(Channel), b)
}

// target publishes one target: signs its role, snapshot and timestamp.
func (p *Publisher) target(role, name string, content []byte) error {
	t, err := p.set.PutTarget(role, name, content)
	if err != nil {
		return err
	}
	p.files[t.Path()] = content
	if err := p.set.Sign(role, p.Expires, p.ring); err != nil {
		return err
	}
	files, err := p.set.Seal(p.ring, publisher.Online{Snapshot: p.Expires, Timestamp: p.Expires}, false)
	if err != nil {
		return err
	}
	p.put(files)
	return nil
}
