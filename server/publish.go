package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// PublishOptions describe a release.
type PublishOptions struct {
	Channel    string
	Compatible string
	Version    release.Version
	Images     map[string]string // name to path of the file or device
	From       []release.Version // deltas start from these releases
	Deltas     int               // and from this many of the newest ones before Version
	BlocksFrom int64             // images of so many bytes get a block map; 0: BlocksFrom; below 0: none
	Epoch      uint64            // 0: that of the newest release, or 1
	Attempt    uint64            // 0: 1
	MinUpdater release.Version
	Meta       map[string]string
	Apps       map[string]release.Version // by NAME or PUBLISHER/NAME; published already
	Rollout    RolloutStart
	// Propose, if set, makes a proposal instead of publishing. Payloads are made and
	// verified all the same; whoever applies the proposal publishes them.
	Propose bool
}

// PublishResult says what a release costs hosts, by what they run.
type PublishResult struct {
	Format     int                `json:"format"`
	Channel    string             `json:"channel"`
	Compatible string             `json:"compatible"`
	Version    release.Version    `json:"version"`
	Deployment release.Digest     `json:"deployment"`
	Images     []PublishedImage   `json:"images"`
	Apps       []release.App      `json:"apps,omitempty"`
	Routes     []Route            `json:"routes"`
	Directive  *release.Directive `json:"directive"` // what the channel offers now
	Notes      []string           `json:"notes,omitempty"`
	Warnings   []string           `json:"warnings,omitempty"`

	// Proposal waits for signatures, if one was asked for.
	Proposal *publisher.Proposal `json:"-"`
}

// PublishedImage is one image of a published release.
type PublishedImage struct {
	Name  string         `json:"name"`
	Size  int64          `json:"size"`
	Root  release.Digest `json:"root"`
	Bytes int64          `json:"bytes"` // of the full container
	// Blocks is the size of the block map with its frames, and Map what of it every host
	// fetches that takes its route.
	Blocks int64 `json:"blocks,omitempty"`
	Map    int64 `json:"map,omitempty"`
}

// Route is what a host that runs From downloads.
type Route struct {
	From  release.Version `json:"from"`
	Full  int64           `json:"full"`  // bytes of the full images
	Delta int64           `json:"delta"` // bytes by the cheapest routes: deltas, blocks or full
	Ratio float64         `json:"ratio"` // Delta / Full
	// Blocks is what such a host downloads if it can use no delta; 0 if that is not known.
	Blocks int64 `json:"blocks,omitempty"`
}

// Publish makes a release from images and offers it in a channel.
func (s *Site) Publish(ctx context.Context, in PublishOptions) (*PublishResult, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	list, err := releases(set, in.Channel)
	if err != nil {
		return nil, err
	}
	// Hours of work must not end at a mistyped passphrase.
	role := publisher.OSRole(in.Channel)
	if err := set.CanSign(role, ring); err != nil && !(in.Propose && isThreshold(err)) {
		return nil, err
	}
	p := &publication{site: s, set: set, ring: ring, in: in, list: list}
	defer p.close()
	if err := p.openSources(); err != nil {
		return nil, err
	}
	if err := p.openImages(); err != nil {
		return nil, err
	}
	if err := p.checkVersion(); err != nil {
		return nil, err
	}
	if err := p.makePayloads(ctx); err != nil {
		return nil, err
	}
	return p.offer(ctx)
}

func isThreshold(err error) bool {
	var t *publisher.ThresholdError
	return errors.As(err, &t)
}

func (in *PublishOptions) check() error {
	if err := release.CheckName("channel", in.Channel); err != nil {
		return err
	}
	if err := release.CheckName("compatible", in.Compatible); err != nil {
		return err
	}
	if in.Version.IsZero() {
		return errors.New("version is missing")
	}
	if len(in.Images) == 0 {
		return errors.New("images: want at least one, such as root=FILE")
	}
	if in.Deltas < 0 {
		return fmt.Errorf("deltas: got %d, want 0 or more", in.Deltas)
	}
	for name := range in.Images {
		if err := release.CheckName("image name", name); err != nil {
			return err
		}
	}
	return in.Rollout.check()
}

// publication is one run of Publish.
type publication struct {
	site    *Site
	set     *publisher.Set
	ring    *publisher.Ring
	in      PublishOptions
	list    []listed
	sources []*release.Manifest // where deltas start, newest first
	images  []*image            // by name
	// unsteady says what of the difference from sources is the builder's doing.
	unsteady []string
	result   PublishResult
	m        release.Manifest
}

func (p *publication) close() {
	for _, i := range p.images {
		i.file.Close()
	}
}

// openSources reads the manifests of the releases that deltas start from.
func (p *publication) openSources() error {
	want := map[release.Version]bool{}
	for _, v := range p.in.From {
		if !slices.ContainsFunc(p.list, func(l listed) bool { return l.Compatible == p.in.Compatible && l.Version == v }) {
			return fmt.Errorf("from %s: channel %s has no such release for %s", v, p.in.Channel, p.in.Compatible)
		}
		want[v] = true
	}
	left := p.in.Deltas
	for _, l := range p.list {
		newest := left > 0 && l.Version.Compare(p.in.Version) < 0
		if l.Compatible != p.in.Compatible || l.Version == p.in.Version || !newest && !want[l.Version] {
			continue
		}
		if newest {
			left--
		}
		m, err := p.site.manifest(l.Target)
		if err != nil {
			return err
		}
		p.sources = append(p.sources, m)
	}
	return nil
}

// openImages opens the images and works out what they are.
func (p *publication) openImages() error {
	newest, err := p.site.newestManifest(p.list, p.in.Compatible)
	if err != nil {
		return err
	}
	epoch := p.in.Epoch
	if epoch == 0 {
		epoch = 1
		if newest != nil {
			epoch = newest.Epoch
		}
	}
	apps, err := p.site.appsOf(p.set, p.in.Apps)
	if err != nil {
		return err
	}
	p.m = release.Manifest{Format: release.ManifestFormat, Version: p.in.Version, Compatible: p.in.Compatible,
		Epoch: epoch, Attempt: max(p.in.Attempt, 1), MinUpdater: p.in.MinUpdater, Apps: apps, Meta: p.in.Meta}
	for _, name := range slices.Sorted(maps.Keys(p.in.Images)) {
		i, err := openImage(name, p.in.Images[name], p.in.Compatible)
		if err != nil {
			return err
		}
		p.images = append(p.images, i)
		size := deltas.PaddedSize(i.size)
		p.site.opt.Progress("hash "+name, 0, size)
		root, err := verity.Root(deltas.Pad(i.file, i.size), size, i.salt)
		if err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		p.site.opt.Progress("hash "+name, size, size)
		p.m.Images = append(p.m.Images, release.Image{Name: name, Size: size, Root: root, Salt: i.salt})
	}
	return nil
}

// checkVersion refuses a version that stands for something else already.
func (p *publication) checkVersion() error {
	name := release.TargetName(p.in.Channel, p.in.Compatible, p.in.Version)
	withdrawn, err := p.set.Withdrawn(publisher.OSRole(p.in.Channel))
	if err != nil {
		return err
	}
	if w, ok := withdrawn[name]; ok {
		return fmt.Errorf("release %s was withdrawn (%s): a version is used once, take a higher one", p.in.Version, w.Reason)
	}
	if err := checkRetired(p.set, publisher.OSRole(p.in.Channel), p.in.Compatible, p.in.Version); err != nil {
		return err
	}
	for _, l := range p.list {
		if l.Compatible != p.in.Compatible || l.Version.Compare(p.in.Version) != 0 {
			continue
		}
		old, err := p.site.manifest(l.Target)
		if err != nil {
			return err
		}
		switch {
		case l.Version != p.in.Version:
			return fmt.Errorf("release %s is equal to %s, which exists already", p.in.Version, l.Version)
		case old.Deployment() != p.m.Deployment():
			return fmt.Errorf("release %s exists already with other images: a version is used once, take a higher one", p.in.Version)
		case p.m.Attempt <= old.Attempt:
			return fmt.Errorf("release %s is published already: %w", p.in.Version, ErrNothingToDo)
		}
	}
	return nil
}

// makePayloads makes the full container of each image, and deltas from each source.
func (p *publication) makePayloads(ctx context.Context) error {
	for i, img := range p.images {
		to := identity(p.m.Images[i])
		blob, err := p.site.payload(ctx, nil, img, deltas.Identity{}, to, 0)
		if err != nil {
			return err
		}
		p.m.Images[i].Full = blob
		if err := p.makeBlocks(ctx, i); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, source := range p.sources {
		for i, img := range p.images {
			old, ok := source.Image(img.name)
			key := img.name + "/" + old.Root.String()
			if !ok || old.Root == p.m.Images[i].Root || seen[key] {
				continue
			}
			seen[key] = true
			if err := p.makeDelta(ctx, old, i); err != nil {
				return fmt.Errorf("delta of %s from %s: %w", img.name, source.Version, err)
			}
		}
	}
	slices.SortFunc(p.m.Deltas, func(a, b release.Delta) int {
		return slices.Compare([]string{a.Image, a.From.String()}, []string{b.Image, b.From.String()})
	})
	return nil
}

func (p *publication) makeDelta(ctx context.Context, old release.Image, i int) error {
	base, err := p.site.unpack(ctx, old)
	if err != nil {
		return err
	}
	defer p.site.discardImage(base)
	found, err := unsteady(ctx, base, p.images[i])
	if err != nil {
		return err
	}
	for _, text := range found {
		if !slices.Contains(p.unsteady, text) {
			p.unsteady = append(p.unsteady, text)
		}
	}
	blob, err := p.site.payload(ctx, base, p.images[i], identity(old), identity(p.m.Images[i]), p.m.Images[i].Full.Size)
	if errors.Is(err, errNoGain) {
		p.note("image %s from %s: %v and is left out", old.Name, old.Root.Short(), err)
		return nil
	}
	if err != nil {
		return err
	}
	p.m.Deltas = append(p.m.Deltas, release.Delta{Image: old.Name, From: old.Root, Blob: blob})
	return nil
}

func (p *publication) note(format string, args ...any) {
	p.result.Notes = append(p.result.Notes, fmt.Sprintf(format, args...))
}

func identity(i release.Image) deltas.Identity {
	return deltas.Identity{Size: i.Size, Root: i.Root, Salt: i.Salt}
}

// offer signs the manifest and moves the channel's directive.
func (p *publication) offer(ctx context.Context) (*PublishResult, error) {
	manifest, err := p.m.Encode()
	if err != nil {
		return nil, err
	}
	p.describe()
	offer := offering{channel: p.in.Channel, manifests: map[string][]byte{p.in.Compatible: manifest}, version: p.in.Version,
		start: p.in.Rollout, propose: p.in.Propose}
	done, err := p.site.offer(ctx, p.set, p.ring, offer)
	if err != nil {
		return nil, err
	}
	p.result.Directive, p.result.Proposal, p.result.Warnings = done.directive, done.proposal, append(p.site.warnings(p.set), p.unsteady...)
	p.result.Notes = append(p.result.Notes, done.notes...)
	if p.in.Propose {
		return &p.result, nil
	}
	return &p.result, p.site.record("publish", map[string]any{"channel": p.in.Channel, "compatible": p.in.Compatible,
		"version": p.in.Version, "deployment": p.result.Deployment, "manifest": release.DigestOf(manifest)})
}

func (p *publication) describe() {
	r := &p.result
	r.Format, r.Channel, r.Compatible, r.Version = 1, p.in.Channel, p.in.Compatible, p.in.Version
	r.Deployment, r.Apps = p.m.Deployment(), p.m.Apps
	for _, i := range p.m.Images {
		r.Images = append(r.Images, PublishedImage{Name: i.Name, Size: i.Size, Root: i.Root, Bytes: i.Full.Size,
			Blocks: i.Blocks.Size, Map: i.Blocks.Head.Size})
	}
	r.Routes = []Route{}
	for _, source := range p.sources {
		r.Routes = append(r.Routes, p.route(source))
	}
}

// route works out what a host downloads that runs source.
func (p *publication) route(source *release.Manifest) Route {
	route := Route{From: source.Version}
	var blocks int64
	known := false
	for _, i := range p.m.Images {
		route.Full += i.Full.Size
		old, _ := source.Image(i.Name)
		if old.Root == i.Root {
			continue // the host has it already
		}
		without := i.Full.Size
		if price := p.site.blocksPrice(old, i); price > 0 {
			without, known = min(without, price), true
		}
		blocks += without
		if d, ok := p.m.Delta(i.Name, old.Root); ok && d.Size < without {
			without = d.Size
		}
		route.Delta += without
	}
	if known {
		route.Blocks = blocks
	}
	route.Ratio = float64(route.Delta) / float64(route.Full)
	return route
}
