package server

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// Lifetimes of what is signed for a bundle.
const (
	DefaultBundleLife = 30 * day
	maxBundleLife     = 90 * day
)

// ExportOptions describe an offline bundle.
type ExportOptions struct {
	Channel    string
	Version    release.Version // none: what the directive offers
	Compatible string          // "": for all machines
	Life       time.Duration   // how long hosts accept the bundle
	FullOnly   bool            // without deltas
	Output     string
}

// ExportResult says what a bundle holds.
type ExportResult struct {
	Format   int             `json:"format"`
	Channel  string          `json:"channel"`
	Version  release.Version `json:"version"`
	Machines []string        `json:"compatible"`
	Payloads int             `json:"payloads"`
	Bytes    int64           `json:"bytes"` // of the payloads
	Expires  time.Time       `json:"expires"`
	Limit    string          `json:"limit"` // the role that expires first
	Warnings []string        `json:"warnings,omitempty"`
}

// Export writes one release of a channel into a bundle that a host installs without a
// network. Timestamp, snapshot and directive in it are signed for longer than those that
// are served, and never served themselves.
//
// Hosts refuse metadata older than what they have seen, so the bundle's versions must not
// be ahead of the served ones: the served ones are raised above them first. A stop before
// the bundle is written costs a few version numbers.
func (s *Site) Export(ctx context.Context, in ExportOptions) (*ExportResult, error) {
	if in.Life < time.Hour || in.Life > maxBundleLife {
		return nil, fmt.Errorf("export: lifetime: got %s, want 1h to %s", in.Life, maxBundleLife)
	}
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	b := &bundle{site: s, in: in, r: ExportResult{Format: 1, Channel: in.Channel}}
	if err := b.choose(set); err != nil {
		return nil, err
	}
	if err := b.sign(set, ring); err != nil {
		return nil, err
	}
	if err := b.fill(ctx, set); err != nil {
		return nil, err
	}
	if err := s.supersede(ctx, set, ring, in.Channel); err != nil {
		return nil, err
	}
	if err := writeArchive(in.Output, 0o644, func(w *tar.Writer) error { return b.write(ctx, w) }); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	b.r.Warnings = s.warnings(set)
	return &b.r, s.record("export", b.r)
}

// bundle is a bundle under construction.
type bundle struct {
	site      *Site
	in        ExportOptions
	r         ExportResult
	directive *release.Directive
	releases  []listed
	files     []publisher.File // metadata and targets
	blobs     []release.Blob
}

// choose finds the release and the directive of the bundle.
func (b *bundle) choose(set *publisher.Set) error {
	list, err := releases(set, b.in.Channel)
	if err != nil {
		return err
	}
	offered, err := b.site.directive(set, b.in.Channel)
	if err != nil {
		return err
	}
	version := b.in.Version
	switch {
	case version.IsZero() && offered != nil:
		version = offered.Version
	case version.IsZero() && len(list) > 0:
		version = list[0].Version
	}
	for _, l := range list {
		if l.Version == version && (b.in.Compatible == "" || b.in.Compatible == l.Compatible) {
			b.releases = append(b.releases, l)
			b.r.Machines = append(b.r.Machines, l.Compatible)
		}
	}
	if len(b.releases) == 0 {
		return fmt.Errorf("export: channel %s has no such release to put into a bundle", b.in.Channel)
	}
	b.r.Version = version
	if offered != nil && offered.Version == version {
		b.directive = offered
		return nil
	}
	// A release that is carried by hand is meant for those who get it.
	b.directive, _ = RolloutStart{}.apply(nil, b.in.Channel, version)
	return nil
}

// sign makes the bundle's own directive, snapshot and timestamp.
func (b *bundle) sign(set *publisher.Set, ring *publisher.Ring) error {
	until := b.site.opt.Now().Add(b.in.Life)
	content, err := b.directive.Encode()
	if err != nil {
		return err
	}
	role := publisher.FleetRole(b.in.Channel)
	t, err := set.PutTarget(role, release.DirectiveName(b.in.Channel), content)
	if err != nil {
		return err
	}
	if err := set.Sign(role, until, ring); err != nil {
		return err
	}
	files, err := set.Seal(ring, publisher.Online{Now: b.site.opt.Now(), Snapshot: until, Timestamp: until}, false)
	if err != nil {
		return err
	}
	b.files = append([]publisher.File{{Path: t.Path(), Data: content}}, files...)
	for _, r := range set.Roles() {
		if r.Name == publisher.OSRole(b.in.Channel) || r.Name == role || set.IsTopLevel(r.Name) {
			b.limit(set, r.Name)
		}
	}
	if !b.r.Expires.After(b.site.opt.Now()) {
		return fmt.Errorf("export: no host would accept the bundle: role %s expired on %s", b.r.Limit, b.r.Expires.Format(time.DateOnly))
	}
	return nil
}

// limit notes when a role that the bundle needs expires.
func (b *bundle) limit(set *publisher.Set, role string) {
	for _, r := range set.Roles() {
		if r.Name == role && (b.r.Expires.IsZero() || r.Expires.Before(b.r.Expires)) {
			b.r.Expires, b.r.Limit = r.Expires, r.Name
		}
	}
}

// fill adds what is published already, and lets a host's client judge the whole.
func (b *bundle) fill(ctx context.Context, set *publisher.Set) error {
	version, _ := set.RootVersion()
	paths := []string{set.MetadataPath(publisher.RoleTargets), set.MetadataPath(publisher.OSRole(b.in.Channel))}
	for v := int64(1); v <= version; v++ {
		paths = append(paths, "metadata/"+strconv.FormatInt(v, 10)+".root.json")
	}
	names := []string{release.DirectiveName(b.in.Channel)}
	var targets []publisher.Target
	for _, l := range b.releases {
		targets = append(targets, l.Target)
		m, err := b.site.manifest(l.Target)
		if err != nil {
			return err
		}
		b.addPayloads(m.Images, m.Deltas)
	}
	apps, roles, err := b.apps(set)
	if err != nil {
		return err
	}
	for _, t := range append(targets, apps...) {
		paths, names = append(paths, t.Path()), append(names, t.Name)
	}
	for _, role := range roles {
		paths = append(paths, set.MetadataPath(role))
	}
	log, err := b.site.logPaths(set, append(targets, apps...))
	if err != nil {
		return err
	}
	for _, path := range append(paths, log...) {
		data, err := readFile(b.site.repo(path), publisher.MaxMetadata)
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		b.files = append(b.files, publisher.File{Path: path, Data: data})
	}
	slices.SortFunc(b.files, func(x, y publisher.File) int { return slices.Compare([]byte(x.Path), []byte(y.Path)) })
	view := sealed{}
	for _, f := range b.files {
		view[f.Path] = f.Data
	}
	if err := b.site.judge(ctx, view, b.site.opt.Now(), names); err != nil {
		return fmt.Errorf("export: a host would refuse the bundle: %w", err)
	}
	return nil
}

func (b *bundle) addPayloads(images []release.Image, deltas []release.Delta) {
	for _, i := range images {
		b.addBlob(i.Full)
	}
	for _, d := range deltas {
		if !b.in.FullOnly {
			b.addBlob(d.Blob)
		}
	}
}

func (b *bundle) addBlob(blob release.Blob) {
	if slices.ContainsFunc(b.blobs, func(x release.Blob) bool { return x.SHA256 == blob.SHA256 }) {
		return
	}
	b.blobs = append(b.blobs, blob)
	b.r.Payloads++
	b.r.Bytes += blob.Size
}

// write writes the archive. The same content gives the same bytes.
func (b *bundle) write(ctx context.Context, w *tar.Writer) error {
	epoch := time.Unix(0, 0)
	for _, f := range b.files {
		if err := w.WriteHeader(header(f.Path, int64(len(f.Data)), 0o644, epoch)); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if _, err := w.Write(f.Data); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	for _, blob := range b.blobs {
		f, err := b.site.openBlob(ctx, blob)
		if err != nil {
			return err
		}
		f.Close()
		if err := addFile(ctx, w, release.BlobPath(blob.SHA256), f.Name(), 0o644, epoch); err != nil {
			return err
		}
	}
	return nil
}

// supersede publishes versions above those that a bundle took.
func (s *Site) supersede(ctx context.Context, set *publisher.Set, ring *publisher.Ring, channel string) error {
	served, err := s.metadata()
	if err != nil {
		return err
	}
	old, err := s.directive(served, channel)
	if err != nil {
		return err
	}
	var contents []publisher.File
	if old != nil {
		f, err := s.putDirective(set, ring, channel, old)
		if err != nil {
			return err
		}
		contents = append(contents, f)
	} else {
		// Nothing was offered to those who poll, and nothing is now.
		if err := set.DropTarget(publisher.FleetRole(channel), release.DirectiveName(channel)); err != nil {
			return err
		}
		if err := set.Sign(publisher.FleetRole(channel), s.expires(publisher.FleetRole(channel)), ring); err != nil {
			return err
		}
	}
	return s.commit(ctx, set, ring, contents, false)
}

// sealed is a repository in memory.
type sealed map[string][]byte

func (v sealed) Fetch(_ context.Context, path string, limit int64) ([]byte, error) {
	b, ok := v[path]
	if !ok {
		return nil, notThere(path)
	}
	if int64(len(b)) > limit {
		return nil, errors.New(path + ": is longer than a host reads")
	}
	return b, nil
}
