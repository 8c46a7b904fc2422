package workloads

import (
	"slices"
	"strings"
)

// StartOrder sorts names as they start: class system first, then each after those that it
// names. There should be no circle among them; it is broken at the name that comes first.
func StartOrder(names []string, after map[string][]string, system map[string]bool) []string {
	left := slices.Clone(names)
	slices.SortFunc(left, func(x, y string) int {
		if system[x] != system[y] {
			if system[x] {
				return -1
			}
			return 1
		}
		return strings.Compare(x, y)
	})
	var order []string
	for len(left) > 0 {
		ready := slices.IndexFunc(left, func(n string) bool {
			return !slices.ContainsFunc(after[n], func(b string) bool { return slices.Contains(left, b) })
		})
		ready = max(ready, 0)
		order = append(order, left[ready])
		left = slices.Delete(left, ready, ready+1)
	}
	return order
}
