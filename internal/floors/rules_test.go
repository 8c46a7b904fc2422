package floors

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/twinkeel/twinkeel"

// rule is one law of the house.
type rule struct {
	name  string
	check func(*tree) []string // what breaks it
}

var rules = []rule{
	{"packages import only downwards, and never the other wing", importsDown},
	{"each outside dependency has one home", dependenciesAtHome},
	{"closures hold nothing they must not", closuresClean},
	{"test support is imported by tests only", supportInTestsOnly},
	{"the world outside is reached through seams", throughSeams},
	{"no cgo", noCgo},
	{"every package has a doc.go with its comment", documented},
	{"files and functions stay small", small},
	{"no init and no mutable package state", noState},
	{"exported signatures mention no outside dependency", ownSignatures},
	{"nothing is left to be done later in a comment", noMarkers},
}

func TestTheHouseStands(t *testing.T) {
	tr, err := parse(module, os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	tr.graph = listGraph(t, "../..")
	for _, r := range rules {
		t.Run(strings.ReplaceAll(r.name, " ", "_"), func(t *testing.T) {
			for _, finding := range r.check(tr) {
				t.Error(finding)
			}
		})
	}
}

func importsDown(t *tree) (found []string) {
	for _, pkg := range t.packages() {
		if _, ok := roomOf(pkg); !ok {
			found = append(found, fmt.Sprintf("package %s has no room in house_test.go", pkg))
		}
	}
	for _, f := range t.files {
		from, ok := roomOf(f.pkg)
		if f.test || !ok {
			continue
		}
		for _, imp := range f.imports() {
			rel, mine := t.ours(imp)
			if !mine {
				continue
			}
			to, ok := roomOf(rel)
			switch {
			case !ok:
				found = append(found, fmt.Sprintf("%s imports %s, which has no room in house_test.go", f.name, rel))
			case to.height >= from.height:
				found = append(found, fmt.Sprintf("%s imports %s: floor %d is not below %d (%s: %s)", f.name, rel, to.height, from.height, rel, to.why))
			case from.wing != support && to.wing != shared && to.wing != from.wing:
				found = append(found, fmt.Sprintf("%s, in the %s wing, imports %s of the %s wing (%s)", f.name, from.wing, rel, to.wing, to.why))
			}
		}
	}
	return found
}

func dependenciesAtHome(t *tree) (found []string) {
	for _, f := range t.files {
		for _, imp := range f.imports() {
			if _, mine := t.ours(imp); mine || standard(imp) {
				continue
			}
			i := slices.IndexFunc(homes, func(h home) bool { return under(imp, h.module) })
			if i < 0 {
				found = append(found, fmt.Sprintf("%s imports %s, which has no home in house_test.go", f.name, imp))
				continue
			}
			h := homes[i]
			if !within(f.pkg, h.rooms) && !(f.test && within(f.pkg, h.tests)) {
				found = append(found, fmt.Sprintf("%s imports %s, whose home is %v, tests %v: %s", f.name, imp, h.rooms, h.tests, h.why))
			}
		}
	}
	return found
}

func closuresClean(t *tree) (found []string) {
	for _, c := range closures {
		for _, root := range c.roots {
			// from keeps how each package was reached, for the finding.
			from := map[string]string{}
			queue := []string{path.Join(t.module, root)}
			from[queue[0]] = ""
			for len(queue) > 0 {
				p := queue[0]
				queue = queue[1:]
				_, mine := t.ours(p)
				for _, imp := range t.graph[p] {
					if _, seen := from[imp]; seen {
						continue
					}
					from[imp] = p
					queue = append(queue, imp)
					if t.matches(imp, c.never) || mine && t.matches(imp, c.direct) {
						found = append(found, fmt.Sprintf("%s holds %s: %s", c.name, chain(from, imp), c.why))
					}
				}
			}
		}
	}
	return found
}

// matches reports whether a pattern of a closure takes in the import path.
func (t *tree) matches(imp string, patterns []string) bool {
	for _, p := range patterns {
		if rel, ok := strings.CutPrefix(p, "./"); ok {
			p = path.Join(t.module, rel)
		}
		if under(imp, p) {
			return true
		}
	}
	return false
}

// chain spells the way from a closure's root to imp.
func chain(from map[string]string, imp string) string {
	way := imp
	for p := from[imp]; p != ""; p = from[p] {
		way = p + " → " + way
	}
	return way
}

func supportInTestsOnly(t *tree) (found []string) {
	for _, f := range t.files {
		if r, _ := roomOf(f.pkg); f.test || r.wing == support {
			continue
		}
		for _, imp := range f.imports() {
			rel, mine := t.ours(imp)
			if to, _ := roomOf(rel); mine && to.wing == support || imp == "testing" || strings.HasPrefix(imp, "testing/") {
				found = append(found, fmt.Sprintf("%s, which is no test, imports %s", f.name, imp))
			}
		}
	}
	return found
}

func noCgo(t *tree) (found []string) {
	for _, f := range t.files {
		if slices.Contains(f.imports(), "C") {
			found = append(found, f.name+" uses cgo: the binaries are static and build anywhere")
		}
	}
	return found
}
