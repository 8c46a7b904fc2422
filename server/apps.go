package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// listedApp is a release of an application as its publisher's role lists it.
type listedApp struct {
	Publisher string
	Name      string
	Version   release.Version
	Target    publisher.Target
}

// apps returns the releases of a publisher's applications, by name, newest first.
func apps(set *publisher.Set, of string) ([]listedApp, error) {
	if !slices.Contains(set.Publishers(), of) {
		return nil, fmt.Errorf("there is no publisher %q; there are: %s", of, strings.Join(set.Publishers(), ", "))
	}
	targets, err := set.Targets(publisher.AppRole(of))
	if err != nil {
		return nil, err
	}
	list := make([]listedApp, 0, len(targets))
	for _, t := range targets {
		e := strings.Split(t.Name, "/")
		if len(e) != 4 || e[0] != "apps" || e[1] != of {
			return nil, fmt.Errorf("target %.200q: want apps/%s/NAME/VERSION.json", t.Name, of)
		}
		v, err := release.ParseVersion(strings.TrimSuffix(e[3], ".json"))
		if err != nil {
			return nil, fmt.Errorf("target %.200q: %w", t.Name, err)
		}
		list = append(list, listedApp{of, e[2], v, t})
	}
	slices.SortStableFunc(list, func(a, b listedApp) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return b.Version.Compare(a.Version)
	})
	return list, nil
}

// appReleases returns the releases of one application, newest first.
func appReleases(set *publisher.Set, of, name string) ([]listedApp, error) {
	list, err := apps(set, of)
	return slices.DeleteFunc(list, func(l listedApp) bool { return l.Name != name }), err
}

func (s *Site) appManifest(t publisher.Target) (*release.AppManifest, error) {
	b, err := s.content(t)
	if err != nil {
		return nil, err
	}
	m, err := release.DecodeAppManifest(b)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t.Name, err)
	}
	return m, nil
}

// findApp returns the published release that "NAME" or "PUBLISHER/NAME" means.
func findApp(set *publisher.Set, text string, version release.Version) (listedApp, error) {
	of, name, qualified := strings.Cut(text, "/")
	if !qualified {
		of, name = "", text
	}
	var found []listedApp
	for _, p := range set.Publishers() {
		if of != "" && p != of {
			continue
		}
		list, err := appReleases(set, p, name)
		if err != nil {
			return listedApp{}, err
		}
		for _, l := range list {
			if l.Version == version {
				found = append(found, l)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return listedApp{}, fmt.Errorf("app %s %s: it is not published: use app publish first", text, version)
	}
	return listedApp{}, fmt.Errorf("app %s %s: several publishers have it: want PUBLISHER/%s", text, version, name)
}

// appsOf returns what a release says of the applications that belong to it. It refuses
// those that no host could run side by side.
func (s *Site) appsOf(set *publisher.Set, wanted map[string]release.Version) ([]release.App, error) {
	var list []release.App
	var all []*release.AppManifest
	for _, text := range slices.Sorted(maps.Keys(wanted)) {
		version := wanted[text]
		l, err := findApp(set, text, version)
		if err != nil {
			return nil, err
		}
		m, err := s.appManifest(l.Target)
		if err != nil {
			return nil, err
		}
		for _, other := range all {
			if err := m.Clash(other); err != nil {
				return nil, fmt.Errorf("app %s/%s %s cannot run beside app %s/%s %s: %w", m.Publisher, m.Name, m.Version, other.Publisher, other.Name, other.Version, err)
			}
		}
		all = append(all, m)
		digest, err := m.Digest()
		if err != nil {
			return nil, err
		}
		list = append(list, release.App{Publisher: l.Publisher, Name: l.Name, Version: l.Version.String(), Digest: digest})
	}
	for _, m := range all {
		if err := m.CheckOrder(all); err != nil {
			return nil, fmt.Errorf("app %s/%s %s: %w", m.Publisher, m.Name, m.Version, err)
		}
	}
	sortBy(list, func(a release.App) string { return a.Name })
	return list, nil
}

// AddPublisherOptions describe a new publisher of applications.
type AddPublisherOptions struct {
	Name string
	Like string // channel whose keys sign its applications, unless By is set
	By   []publisher.PublicKey
	// Names are what people call the keys in By, by id; Threshold says how many of them
	// have to sign.
	Names     map[string]string
	Threshold int
	Propose   bool
}

// AddPublisher delegates the applications of a publisher. It publishes directly, or
// returns a proposal if asked to. Keys that are not here begin with a proposal.
func (s *Site) AddPublisher(ctx context.Context, in AddPublisherOptions) (*publisher.Proposal, error) {
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	by := publisher.Authority{Keys: in.By, Threshold: max(in.Threshold, 1)}
	if len(in.By) == 0 {
		if by, err = set.Authority(publisher.OSRole(in.Like)); err != nil {
			return nil, err
		}
	}
	if err := set.AddPublisher(in.Name, by, in.Names); err != nil {
		return nil, err
	}
	if in.Propose {
		return s.propose(set, ring, nil, "", nil)
	}
	for _, role := range set.Changed() {
		if err := set.Sign(role, s.expires(role), ring); err != nil {
			return nil, err
		}
	}
	if err := s.commit(ctx, set, ring, nil, false); err != nil {
		return nil, err
	}
	return nil, s.record("publisher", in.Name)
}

// PublisherStatus is a publisher of applications and what it has published.
type PublisherStatus struct {
	Name      string            `json:"name"`
	Apps      []AppStatus       `json:"apps"`
	Withdrawn []WithdrawnStatus `json:"withdrawn,omitempty"`
}

// AppStatus is one release of an application.
type AppStatus struct {
	Name    string          `json:"name"`
	Version release.Version `json:"version"`
}

func publisherStatus(set *publisher.Set, name string) (p PublisherStatus, err error) {
	p = PublisherStatus{Name: name, Apps: []AppStatus{}}
	list, err := apps(set, name)
	if err != nil {
		return p, err
	}
	for _, l := range list {
		p.Apps = append(p.Apps, AppStatus{l.Name, l.Version})
	}
	p.Withdrawn, err = withdrawnFrom(set, publisher.AppRole(name))
	return p, err
}

// checkAppVersion refuses a version that stands for something else already.
func (s *Site) checkAppVersion(set *publisher.Set, m *release.AppManifest, list []listedApp) error {
	role := publisher.AppRole(m.Publisher)
	what := fmt.Sprintf("app %s/%s %s", m.Publisher, m.Name, m.Version)
	withdrawn, err := set.Withdrawn(role)
	if err != nil {
		return err
	}
	if w, ok := withdrawn[release.AppTargetName(m.Publisher, m.Name, m.Version)]; ok {
		return fmt.Errorf("%s was withdrawn (%s): a version is used once, take a higher one", what, w.Reason)
	}
	if err := checkRetired(set, role, m.Name, m.Version); err != nil {
		return err
	}
	for _, l := range list {
		if l.Version.Compare(m.Version) != 0 {
			continue
		}
		old, err := s.appManifest(l.Target)
		if err != nil {
			return err
		}
		was, err := old.Digest()
		if err != nil {
			return err
		}
		now, err := m.Digest()
		switch {
		case err != nil:
			return err
		case l.Version != m.Version:
			return fmt.Errorf("%s is equal to %s, which exists already", what, l.Version)
		case was != now:
			return fmt.Errorf("%s exists already as something else: a version is used once, take a higher one", what)
		case m.Attempt <= old.Attempt:
			return fmt.Errorf("%s is published already: %w", what, ErrNothingToDo)
		}
	}
	return nil
}

// checkAppOrder refuses an application that would start after itself, beside the newest
// releases of its publisher's others. What is offered to hosts has an order at any time:
// to turn one round, its first half goes with a release of its own.
func (s *Site) checkAppOrder(set *publisher.Set, m *release.AppManifest) error {
	if len(m.After) == 0 {
		return nil
	}
	list, err := apps(set, m.Publisher)
	if err != nil {
		return err
	}
	withdrawn, err := set.Withdrawn(publisher.AppRole(m.Publisher))
	if err != nil {
		return err
	}
	var others []*release.AppManifest
	for _, l := range list { // newest first
		if _, gone := withdrawn[l.Target.Name]; gone || len(others) > 0 && others[len(others)-1].Name == l.Name {
			continue
		}
		o, err := s.appManifest(l.Target)
		if err != nil {
			return err
		}
		others = append(others, o)
	}
	if err := m.CheckOrder(others); err != nil {
		return fmt.Errorf("app %s/%s %s: %w", m.Publisher, m.Name, m.Version, err)
	}
	return nil
}

var errNoApp = errors.New("the publisher has no such release of it")
