package probes

import (
	"strings"
	"testing"
)

func TestTheListHasSeventyProbesAndEachOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range All {
		if seen[p.Name] || p.Name == "" || p.Why == "" {
			t.Errorf("probe %q stands twice, or lacks a name or a reason", p.Name)
		}
		seen[p.Name] = true
	}
	if len(All) < 70 {
		t.Errorf("got %d probes, want at least 70", len(All))
	}
	for _, e := range []Expectation{Container(), Sandbox(), Emulator(), Guest()} {
		for name, x := range e.Known {
			if !seen[name] || x.Why == "" {
				t.Errorf("%s: expected to be open: %q, which is no probe, or has no reason", e.Place, name)
			}
		}
		if e.Most > len(e.Known) {
			t.Errorf("%s: got %d open at most, and %d that may be", e.Place, e.Most, len(e.Known))
		}
	}
}

func TestAProbeWithoutAnAnswerIsOpen(t *testing.T) {
	var out strings.Builder
	for _, p := range All[1:] {
		out.WriteString(p.Name + "\tclosed\tEPERM\n")
	}
	results, err := Parse(out.String())
	if err != nil {
		t.Fatal(err)
	}
	open, err := Container().Judge(results)
	if len(open) != 1 || open[0].Name != All[0].Name || err == nil {
		t.Errorf("got %v, %v, want %s open and an error", open, err, All[0].Name)
	}
}

func TestAnAnswerThatNobodyAskedForIsAnError(t *testing.T) {
	for _, out := range []string{"nothing\topen\tx\n", All[0].Name + "\tperhaps\tx\n", strings.Repeat(All[0].Name+"\tclosed\tx\n", 2)} {
		if r, err := Parse(out); err == nil {
			t.Errorf("%q: got %v, want an error", out, r)
		}
	}
}
