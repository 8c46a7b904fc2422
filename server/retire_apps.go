package server

import (
	"slices"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// retireApps takes the releases of applications off their publishers' lists that no host
// needs there: all but the newest ones of each, those that a listed release of the OS names,
// and what directives offer with all that is newer. It returns their target names.
func (s *Site) retireApps(set *publisher.Set, keep int) (retired []string, err error) {
	named, err := s.namedApps(set)
	if err != nil {
		return nil, err
	}
	offered, err := s.offeredApps(set)
	if err != nil {
		return nil, err
	}
	for _, of := range set.Publishers() {
		list, err := apps(set, of) // newest first
		if err != nil {
			return nil, err
		}
		role, seen := publisher.AppRole(of), map[string]int{}
		used, err := set.Retired(role)
		if err != nil {
			return nil, err
		}
		before := len(retired)
		for _, l := range list {
			seen[l.Name]++
			lowest, isOffered := offered[of+"/"+l.Name]
			if seen[l.Name] <= keep || named[l.Target.Name] || isOffered && l.Version.Compare(lowest) >= 0 {
				continue
			}
			if err := set.DropTarget(role, l.Target.Name); err != nil {
				return nil, err
			}
			if v, err := release.ParseVersion(used[l.Name]); err != nil || l.Version.Compare(v) > 0 {
				used[l.Name] = l.Version.String()
			}
			retired = append(retired, l.Target.Name)
		}
		if len(retired) > before {
			if err := set.SetRetired(role, used); err != nil {
				return nil, err
			}
		}
	}
	return retired, nil
}

// namedApps returns the target names of the applications that listed releases name.
func (s *Site) namedApps(set *publisher.Set) (map[string]bool, error) {
	named := map[string]bool{}
	for _, channel := range set.Channels() {
		list, err := releases(set, channel)
		if err != nil {
			return nil, err
		}
		for _, l := range list {
			m, err := s.manifest(l.Target)
			if err != nil {
				return nil, err
			}
			for _, a := range m.Apps {
				if v, err := release.ParseVersion(a.Version); err == nil {
					named[release.AppTargetName(a.Publisher, a.Name, v)] = true
				}
			}
		}
	}
	return named, nil
}

// offeredApps returns the lowest version that any channel offers of each application apart
// from the OS, by PUBLISHER/NAME.
func (s *Site) offeredApps(set *publisher.Set) (map[string]release.Version, error) {
	var all []*release.AppDirective
	for _, channel := range set.Channels() {
		list, err := s.appDirectives(set, channel)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b *release.AppDirective) int { return b.Version.Compare(a.Version) })
	lowest := map[string]release.Version{}
	for _, d := range all {
		lowest[d.Publisher+"/"+d.Name] = d.Version
	}
	return lowest, nil
}
