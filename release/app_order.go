package release

import (
	"fmt"
	"slices"
	"strings"
)

// CheckOrder refuses m among others if it would have to start after itself: it names one
// in After that starts, over any number of others, after m. Names that nobody here has are
// not waited for, and one of m's own name is what m takes the place of.
func (m *AppManifest) CheckOrder(others []*AppManifest) error {
	after := map[string][]string{}
	for _, o := range others {
		after[o.Name] = o.After
	}
	after[m.Name] = m.After
	// The shortest way back, of those the one that comes first by name.
	before := map[string]string{} // each name and who brought it up
	row := []string{m.Name}
	for len(row) > 0 {
		at := row[0]
		row = row[1:]
		for _, next := range after[at] {
			if _, seen := before[next]; seen {
				continue
			}
			before[next] = at
			if next == m.Name {
				return fmt.Errorf("after: none of them could start first: %s", circle(before, m.Name))
			}
			row = append(row, next)
		}
	}
	return nil
}

// circle spells out the way that leads to a name and began there.
func circle(before map[string]string, name string) string {
	var steps []string
	for at := name; len(steps) == 0 || at != name; at = before[at] {
		steps = append(steps, before[at]+" starts after "+at)
	}
	slices.Reverse(steps)
	return strings.Join(steps, ", ")
}
