package release_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/release"
)

func TestNoApplicationStartsAfterItself(t *testing.T) {
	for _, c := range []struct {
		name, after string // of web and others: "web:db,cache db:log"
		want        string // in the error about web; "": none
	}{
		{"nothing is said", "web db", ""},
		{"a row", "web:db db:log log", ""},
		{"a name that nobody has", "web:db,x db:x", ""},
		{"two ways to one", "web:a,b a:log b:log log", ""},
		{"each after the other", "web:db db:web", "web starts after db, db starts after web"},
		{"over another", "web:db db:log log:web", "web starts after db, db starts after log, log starts after web"},
		{"the shortest of several", "web:a,c a:b b:web c:web", "web starts after c, c starts after web"},
		{"a circle of others", "web:db db:log log:db", ""},
		{"one that it takes the place of", "web db:web web:db", ""},
		{"behind a circle of others", "web:a a:b b:a,c c:web", "b starts after c, c starts after web"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []*release.AppManifest
			for one := range strings.FieldsSeq(c.after) {
				name, after, _ := strings.Cut(one, ":")
				m := &release.AppManifest{Name: name}
				if after != "" {
					m.After = strings.Split(after, ",")
				}
				all = append(all, m)
			}
			err := all[0].CheckOrder(all[1:])
			if c.want == "" && err != nil || c.want != "" && !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestALongRowOfApplicationsIsCheckedAtOnce(t *testing.T) {
	const n = 2000 // each after all those before it: millions of ways
	var all []*release.AppManifest
	var names []string
	for i := range n {
		name := fmt.Sprintf("a%04d", i)
		all = append(all, &release.AppManifest{Name: name, After: names})
		if names = append(names, name); len(names) > release.MaxAppItems {
			names = names[1:]
		}
	}
	if err := all[n-1].CheckOrder(all); err != nil {
		t.Error(err)
	}
	all[0].After = []string{all[n-1].Name}
	if err := all[n-1].CheckOrder(all); err == nil {
		t.Error("got no error, want that the first starts after the last")
	}
}
