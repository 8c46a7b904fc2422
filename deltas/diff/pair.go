package diff

import (
	"regexp"
)

// side is one image, as far as the other has nothing that is the same.
type side struct {
	image image
	files []file
	areas []area
	own   [][]span // of each file
	rest  []span   // of no file
}

// version is what names of files have of versions, and of digests.
var version = regexp.MustCompile(`[0-9a-f]{8,}|[0-9]+(?:[-._+~:][0-9]+)*`)

// pair finds, for each file of new that something is left of, the file of old that it
// probably comes from: of the same path; of a path that differs in numbers alone; of
// content that is alike. It returns an index of old's files, or -1.
func pair(old, new *side) ([]int, error) {
	partner := make([]int, len(new.files))
	taken := make([]bool, len(old.files))
	for i := range partner {
		partner[i] = -1
	}
	for _, name := range []func(string) string{
		func(path string) string { return path },
		func(path string) string { return version.ReplaceAllString(path, "#") },
	} {
		byName := make(map[string][]int)
		for i, f := range old.files {
			if !taken[i] && len(old.own[i]) > 0 {
				byName[name(f.path)] = append(byName[name(f.path)], i)
			}
		}
		for i, f := range new.files {
			if partner[i] >= 0 || len(new.own[i]) == 0 {
				continue
			}
			n := name(f.path)
			if list := byName[n]; len(list) > 0 {
				partner[i], byName[n] = list[0], list[1:]
				taken[list[0]] = true
			}
		}
	}
	return partner, pairByContent(old, new, partner)
}
