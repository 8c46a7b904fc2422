package server

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// listed is a release as its channel's role lists it; its manifest is not read.
type listed struct {
	Compatible string
	Version    release.Version
	Target     publisher.Target
}

// releases returns the releases of a channel, newest first, then by compatible.
func releases(set *publisher.Set, channel string) ([]listed, error) {
	if !slices.Contains(set.Channels(), channel) {
		return nil, fmt.Errorf("there is no channel %q; there are: %s", channel, strings.Join(set.Channels(), ", "))
	}
	targets, err := set.Targets(publisher.OSRole(channel))
	if err != nil {
		return nil, err
	}
	list := make([]listed, 0, len(targets))
	for _, t := range targets {
		compatible, version, err := splitReleaseName(t.Name, channel)
		if err != nil {
			return nil, err
		}
		list = append(list, listed{Compatible: compatible, Version: version, Target: t})
	}
	slices.SortStableFunc(list, func(a, b listed) int {
		if c := b.Version.Compare(a.Version); c != 0 {
			return c
		}
		return strings.Compare(a.Compatible, b.Compatible)
	})
	return list, nil
}

// splitReleaseName takes "os/CHANNEL/COMPATIBLE/VERSION.json" apart.
func splitReleaseName(name, channel string) (compatible string, version release.Version, err error) {
	elements := strings.Split(name, "/")
	if len(elements) != 4 || elements[0] != "os" || elements[1] != channel {
		return "", version, fmt.Errorf("target %.200q: want os/%s/COMPATIBLE/VERSION.json", name, channel)
	}
	version, err = release.ParseVersion(strings.TrimSuffix(elements[3], ".json"))
	if err != nil {
		return "", version, fmt.Errorf("target %.200q: %w", name, err)
	}
	return elements[2], version, nil
}

// content reads the file of a target and compares it with what was signed.
func (s *Site) content(t publisher.Target) ([]byte, error) {
	b, err := readFile(s.repo(t.Path()), t.Size)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t.Name, err)
	}
	if int64(len(b)) != t.Size || release.DigestOf(b) != t.Digest {
		return nil, fmt.Errorf("target %s: the file %s is not what was signed", t.Name, t.Path())
	}
	return b, nil
}

func (s *Site) manifest(t publisher.Target) (*release.Manifest, error) {
	b, err := s.content(t)
	if err != nil {
		return nil, err
	}
	m, err := release.DecodeManifest(b)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t.Name, err)
	}
	return m, nil
}

// directive returns the directive of a channel, or nil if it has none.
func (s *Site) directive(set *publisher.Set, channel string) (*release.Directive, error) {
	t, found, err := set.Target(publisher.FleetRole(channel), release.DirectiveName(channel))
	if err != nil || !found {
		return nil, err
	}
	b, err := s.content(t)
	if err != nil {
		return nil, err
	}
	d, err := release.DecodeDirective(b)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t.Name, err)
	}
	return d, nil
}

// putDirective signs d as the channel's directive and returns the file of its content.
func (s *Site) putDirective(set *publisher.Set, ring *publisher.Ring, channel string, d *release.Directive) (publisher.File, error) {
	b, err := d.Encode()
	if err != nil {
		return publisher.File{}, err
	}
	role := publisher.FleetRole(channel)
	t, err := set.PutTarget(role, release.DirectiveName(channel), b)
	if err != nil {
		return publisher.File{}, err
	}
	if err := set.Sign(role, s.expires(role), ring); err != nil {
		return publisher.File{}, err
	}
	return publisher.File{Path: t.Path(), Data: b}, nil
}

// blobs returns the payloads of images and deltas.
func blobs(images []release.Image, deltas []release.Delta) []release.Blob {
	var list []release.Blob
	for _, i := range images {
		list = append(list, i.Full)
		if i.Blocks != (release.Blob{}) {
			list = append(list, i.Blocks)
		}
	}
	for _, d := range deltas {
		list = append(list, d.Blob)
	}
	return list
}

// payloads reads a target, and returns the payloads that it names if it is a release.
func (s *Site) payloads(t publisher.Target) (list []release.Blob, isRelease bool, err error) {
	b, err := s.content(t)
	if err != nil {
		return nil, false, err
	}
	return payloadsOf(t.Name, b)
}

// payloadsOf returns the payloads that the content of a target names.
func payloadsOf(name string, content []byte) (list []release.Blob, isRelease bool, err error) {
	switch kind, _, _ := strings.Cut(name, "/"); kind {
	case "os":
		m, err := release.DecodeManifest(content)
		if err != nil {
			return nil, true, fmt.Errorf("target %s: %w", name, err)
		}
		return blobs(m.Images, m.Deltas), true, nil
	case "apps":
		m, err := release.DecodeAppManifest(content)
		if err != nil {
			return nil, true, fmt.Errorf("target %s: %w", name, err)
		}
		return blobs([]release.Image{m.Image}, m.Deltas), true, nil
	}
	return nil, false, nil
}

// releaseRoles returns the roles that sign releases, of the OS and of applications.
func releaseRoles(set *publisher.Set) []string {
	var roles []string
	for _, c := range set.Channels() {
		roles = append(roles, publisher.OSRole(c))
	}
	for _, p := range set.Publishers() {
		roles = append(roles, publisher.AppRole(p))
	}
	return roles
}

// newestManifest returns the manifest of the newest release for a machine, or nil.
func (s *Site) newestManifest(list []listed, compatible string) (*release.Manifest, error) {
	for _, l := range list {
		if l.Compatible == compatible {
			return s.manifest(l.Target)
		}
	}
	return nil, nil
}

// gone reports whether err says that a file does not exist.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func notThere(path string) error {
	return &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
}

func sortBy[T any](list []T, key func(T) string) {
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(key(a), key(b)) })
}
