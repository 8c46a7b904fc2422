package server

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// apps adds the payloads of the applications that the bundle's releases name, and of those
// that the channel offers apart. It returns their manifests with the channel's directives
// for applications, and the roles that vouch for them.
func (b *bundle) apps(set *publisher.Set) (targets []publisher.Target, roles []string, err error) {
	wanted := map[string]release.App{}
	for _, l := range b.releases {
		m, err := b.site.manifest(l.Target)
		if err != nil {
			return nil, nil, err
		}
		for _, a := range m.Apps {
			wanted[a.Publisher+"/"+a.Name+"/"+a.Version] = a
		}
	}
	directives, err := b.site.appDirectives(set, b.in.Channel)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range directives {
		wanted[d.Publisher+"/"+d.Name+"/"+d.Version.String()] = release.App{Publisher: d.Publisher, Name: d.Name, Version: d.Version.String()}
		t, _, err := set.Target(publisher.FleetRole(b.in.Channel), release.AppDirectiveName(b.in.Channel, d.Name))
		if err != nil {
			return nil, nil, err
		}
		targets = append(targets, t)
	}
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		a := wanted[key]
		v, err := release.ParseVersion(a.Version)
		if err != nil {
			return nil, nil, fmt.Errorf("app %s: %w", a.Name, err)
		}
		l, err := findApp(set, a.Publisher+"/"+a.Name, v)
		if err != nil {
			return nil, nil, fmt.Errorf("export: %w", err)
		}
		m, err := b.site.appManifest(l.Target)
		if err != nil {
			return nil, nil, err
		}
		if role := publisher.AppRole(a.Publisher); !slices.Contains(roles, role) {
			roles = append(roles, role)
			b.limit(set, role)
		}
		b.addPayloads([]release.Image{m.Image}, m.Deltas)
		targets = append(targets, l.Target)
	}
	sortBy(targets, func(t publisher.Target) string { return t.Name })
	return targets, roles, nil
}
