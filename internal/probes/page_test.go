package probes

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/THREATMODEL.md anew")

// page is the part of the threat model about levels.
func page() string {
	var b strings.Builder
	fmt.Fprintf(&b, "`workloads/runner.TestEachLevelHoldsAgainstProbesAndAbuse` makes %d probes and %d abuses at each level and is red where one is\n"+
		"not as it stands here; a probe without an answer counts as open. In level `vm` the probes are made twice: in the guest, and in the\n"+
		"place of its emulator, with all that the emulator has, because that is what stands on the host's kernel.\n\n", len(All), len(Abuses))
	places := []Expectation{Container(), Sandbox(), Emulator(), Guest()}
	b.WriteString("| place | probes | open at most |\n| --- | --- | --- |\n")
	for _, e := range places {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", e.Place, len(All), e.Most)
	}
	b.WriteString("\n| place | probes that may be open | why that is no way out | checked in their place |\n| --- | --- | --- | --- |\n")
	for _, e := range places {
		groups := map[Exception][]string{}
		for name, x := range e.Known {
			groups[x] = append(groups[x], name)
		}
		for x, names := range groups {
			slices.Sort(names)
			groups[x] = names
		}
		for _, x := range slices.SortedFunc(maps.Keys(groups), func(x, y Exception) int { return strings.Compare(x.Why, y.Why) }) {
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", e.Place, strings.Join(groups[x], "` `"), x.Why, x.Instead)
		}
	}
	fmt.Fprintf(&b, "\n| an application that | %s |\n| --- |%s\n", strings.Join(Levels, " | "), strings.Repeat(" --- |", len(Levels)))
	for _, a := range Abuses {
		fmt.Fprintf(&b, "| %s |", a.Does)
		for _, l := range Levels {
			fmt.Fprintf(&b, " %s |", a.Ends[l])
		}
		b.WriteByte('\n')
	}
	b.WriteString("\nMeanwhile, at every level, another application goes on without a restart, and what somebody who got out could have changed of the\n" +
		"host is as it was: names, `core_pattern` and the like, modules, swap, mounts, files of `/etc`, `/dev` and `/boot`.\n")
	return b.String()
}

func TestTheThreatModelSaysWhatIsExpectedOfEachLevel(t *testing.T) {
	const file = "../../docs/THREATMODEL.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), "<!-- levels: written by go test ./internal/probes -update -->\n")
	said, after, ended := strings.Cut(rest, "<!-- levels end -->\n")
	if !ok || !ended {
		t.Fatal("got no place for the tables")
	}
	if *update {
		said = page()
		b = []byte(before + "<!-- levels: written by go test ./internal/probes -update -->\n" + said + "<!-- levels end -->\n" + after)
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if said != page() {
		t.Errorf("%s says something else: run go test ./internal/probes -update, and look at the difference", file)
	}
}

func TestEachAbuseHasAnEndOnEachLevel(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range Abuses {
		if seen[a.Name] || a.Does == "" {
			t.Errorf("%q stands twice, or does nothing", a.Name)
		}
		seen[a.Name] = true
		for _, l := range Levels {
			if a.Ends[l] == "" || len(a.Ends) != len(Levels) {
				t.Errorf("%s: got %v, want an end for each level", a.Name, a.Ends)
			}
		}
	}
}
