package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/blocks/build"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// AppPublishOptions describe a release of an application.
type AppPublishOptions struct {
	// Draft is the manifest without what publishing adds: payloads, deltas and attempt.
	Draft      *release.AppManifest
	Image      string            // path of the EROFS image that Draft describes
	From       []release.Version // deltas start from these releases
	Deltas     int               // and from this many of the newest ones before it
	BlocksFrom int64             // as in PublishOptions
	Attempt    uint64            // 0: 1
	// Channels then offer it apart from the OS; none: it waits for a release that names it.
	Channels []string
	Rollout  RolloutStart
	Propose  bool
}

// AppPublishResult says what a release of an application costs hosts.
type AppPublishResult struct {
	Format     int                     `json:"format"`
	Publisher  string                  `json:"publisher"`
	Name       string                  `json:"name"`
	Version    release.Version         `json:"version"`
	Digest     release.Digest          `json:"digest"`
	Image      PublishedImage          `json:"image"`
	Routes     []Route                 `json:"routes"`
	Directives []*release.AppDirective `json:"directives,omitempty"`
	Notes      []string                `json:"notes,omitempty"`
	Warnings   []string                `json:"warnings,omitempty"`

	Proposal *publisher.Proposal `json:"-"`
}

// appPublication is one run of PublishApp.
type appPublication struct {
	site    *Site
	set     *publisher.Set
	ring    *publisher.Ring
	in      AppPublishOptions
	m       release.AppManifest
	image   *image
	list    []listedApp // releases of the application, newest first
	sources []*release.AppManifest
	result  AppPublishResult
}

// PublishApp makes a release of an application from what app build made: a full container
// and deltas from earlier releases, each verified by applying it, signed by its publisher.
func (s *Site) PublishApp(ctx context.Context, in AppPublishOptions) (*AppPublishResult, error) {
	if err := in.Rollout.check(); err != nil {
		return nil, err
	}
	if in.Deltas < 0 {
		return nil, fmt.Errorf("deltas: got %d, want 0 or more", in.Deltas)
	}
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	p := &appPublication{site: s, set: set, ring: ring, in: in, m: *in.Draft}
	p.m.Deltas, p.m.Attempt = nil, max(in.Attempt, 1)
	if p.list, err = appReleases(set, p.m.Publisher, p.m.Name); err != nil {
		return nil, err
	}
	// Hours of work must not end at a mistyped passphrase or channel.
	if err := set.CanSign(publisher.AppRole(p.m.Publisher), ring); err != nil && !(in.Propose && isThreshold(err)) {
		return nil, err
	}
	for _, c := range in.Channels {
		if _, err := releases(set, c); err != nil {
			return nil, err
		}
	}
	if err := p.openImage(); err != nil {
		return nil, err
	}
	defer p.image.file.Close()
	if err := s.checkAppVersion(set, &p.m, p.list); err != nil {
		return nil, err
	}
	if err := s.checkAppOrder(set, &p.m); err != nil {
		return nil, err
	}
	if err := p.openSources(); err != nil {
		return nil, err
	}
	if err := p.makePayloads(ctx); err != nil {
		return nil, err
	}
	return p.offer(ctx)
}

// openImage compares the image with its draft.
func (p *appPublication) openImage() (err error) {
	i := &p.m.Image
	if p.image, err = openImage(i.Name, p.in.Image, ""); err != nil {
		return err
	}
	p.image.salt = i.Salt
	size := deltas.PaddedSize(p.image.size)
	p.site.opt.Progress("hash app", 0, size)
	root, err := verity.Root(deltas.Pad(p.image.file, p.image.size), size, i.Salt)
	p.site.opt.Progress("hash app", size, size)
	if err == nil && (root != i.Root || size != i.Size) {
		err = fmt.Errorf("%s is not the image that the draft describes: got %d bytes with root %s, want %d with %s", p.in.Image, size, root.Short(), i.Size, i.Root.Short())
	}
	if err != nil {
		p.image.file.Close()
	}
	return err
}

func (p *appPublication) openSources() error {
	for _, v := range p.in.From {
		if !slices.ContainsFunc(p.list, func(l listedApp) bool { return l.Version == v }) {
			return fmt.Errorf("from %s: app %s: %w", v, p.m.Name, errNoApp)
		}
	}
	left := p.in.Deltas
	for _, l := range p.list {
		newest := left > 0 && l.Version.Compare(p.m.Version) < 0
		if l.Version == p.m.Version || !newest && !slices.Contains(p.in.From, l.Version) {
			continue
		}
		if newest {
			left--
		}
		m, err := p.site.appManifest(l.Target)
		if err != nil {
			return err
		}
		p.sources = append(p.sources, m)
	}
	return nil
}

func (p *appPublication) makePayloads(ctx context.Context) (err error) {
	i := &p.m.Image
	if i.Full, err = p.site.payload(ctx, nil, p.image, deltas.Identity{}, identity(*i), 0); err != nil {
		return err
	}
	i.Blocks = release.Blob{}
	from := p.in.BlocksFrom
	if from == 0 {
		from = BlocksFrom
	}
	if from >= 0 && p.image.size >= from {
		i.Blocks, err = p.site.blockMap(ctx, p.image, identity(*i))
		if errors.Is(err, build.ErrTooLarge) {
			p.note("%v", err)
		} else if err != nil {
			return err
		}
	}
	seen := map[release.Digest]bool{i.Root: true}
	for _, source := range p.sources {
		if seen[source.Image.Root] {
			continue
		}
		seen[source.Image.Root] = true
		if err := p.makeDelta(ctx, source.Image); err != nil {
			return fmt.Errorf("delta from %s: %w", source.Version, err)
		}
	}
	slices.SortFunc(p.m.Deltas, func(a, b release.Delta) int { return strings.Compare(a.From.String(), b.From.String()) })
	return nil
}

func (p *appPublication) makeDelta(ctx context.Context, old release.Image) error {
	base, err := p.site.unpack(ctx, old)
	if err != nil {
		return err
	}
	defer p.site.discardImage(base)
	blob, err := p.site.payload(ctx, base, p.image, identity(old), identity(p.m.Image), p.m.Image.Full.Size)
	if errors.Is(err, errNoGain) {
		p.note("from %s: %v and is left out", old.Root.Short(), err)
		return nil
	}
	if err == nil {
		p.m.Deltas = append(p.m.Deltas, release.Delta{Image: old.Name, From: old.Root, Blob: blob})
	}
	return err
}

func (p *appPublication) note(format string, args ...any) {
	p.result.Notes = append(p.result.Notes, fmt.Sprintf(format, args...))
}

// offer signs the manifest, and the directives of the channels that offer it.
func (p *appPublication) offer(ctx context.Context) (*AppPublishResult, error) {
	manifest, err := p.m.Encode()
	if err != nil {
		return nil, err
	}
	if err := p.describe(); err != nil {
		return nil, err
	}
	role, name := publisher.AppRole(p.m.Publisher), release.AppTargetName(p.m.Publisher, p.m.Name, p.m.Version)
	t, err := p.set.PutTarget(role, name, manifest)
	if err != nil {
		return nil, err
	}
	r := &p.result
	moved := map[string]*release.AppDirective{}
	for _, channel := range p.in.Channels {
		old, err := p.site.appDirective(p.set, channel, p.m.Name)
		if err != nil {
			return nil, err
		}
		d, note, err := p.in.Rollout.applyApp(old, channel, p.m.Publisher, p.m.Name, p.m.Version)
		if err != nil {
			return nil, err
		}
		if note != "" {
			p.note("%s: %s", channel, note)
		}
		if d != nil {
			moved[release.AppDirectiveName(channel, p.m.Name)] = d
			r.Directives = append(r.Directives, d)
		}
	}
	if p.in.Propose {
		if r.Proposal, err = p.site.propose(p.set, p.ring, map[string][]byte{name: manifest}, "", nil); err == nil {
			r.Proposal.AppDirectives, err = encodeAppDirectives(moved)
		}
		return r, err
	}
	if err := p.set.Sign(role, p.site.expires(role), p.ring); err != nil {
		return nil, err
	}
	contents, err := p.site.putAppDirectives(p.set, p.ring, moved)
	if err != nil {
		return nil, err
	}
	contents = append([]publisher.File{{Path: t.Path(), Data: manifest}}, contents...)
	if err := p.site.commit(ctx, p.set, p.ring, contents, false); err != nil {
		return nil, err
	}
	r.Warnings = p.site.warnings(p.set)
	return r, p.site.record("app-publish", map[string]any{"publisher": r.Publisher, "name": r.Name, "version": r.Version,
		"digest": r.Digest, "manifest": release.DigestOf(manifest), "channels": p.in.Channels})
}

func (p *appPublication) describe() (err error) {
	r, i := &p.result, p.m.Image
	r.Format, r.Publisher, r.Name, r.Version, r.Routes = 1, p.m.Publisher, p.m.Name, p.m.Version, []Route{}
	if r.Digest, err = p.m.Digest(); err != nil {
		return err
	}
	r.Image = PublishedImage{Name: i.Name, Size: i.Size, Root: i.Root, Bytes: i.Full.Size, Blocks: i.Blocks.Size, Map: i.Blocks.Head.Size}
	for _, source := range p.sources {
		route := Route{From: source.Version, Full: i.Full.Size}
		if source.Image.Root != i.Root {
			route.Blocks = p.site.blocksPrice(source.Image, i)
			route.Delta = route.Full
			if route.Blocks > 0 {
				route.Delta = min(route.Delta, route.Blocks)
			}
			if d, ok := p.m.Delta(source.Image.Root); ok {
				route.Delta = min(route.Delta, d.Size)
			}
		}
		route.Ratio = float64(route.Delta) / float64(route.Full)
		r.Routes = append(r.Routes, route)
	}
	return nil
}
