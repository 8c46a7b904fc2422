package agent

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var updateStates = flag.Bool("update", false, "write docs/STATES.md anew")

var phases = []Phase{Idle, Staging, Staged, Armed, Reverting}

// observations enumerates everything that can be so.
func observations(yield func(Observation) bool) {
	for bits := range 1 << 8 {
		for _, p := range []Permit{PermitYes, PermitWait, PermitNo} {
			for _, v := range []Verdict{VerdictPending, VerdictHealthy, VerdictUnhealthy} {
				o := Observation{
					OnTrial: bits&1 != 0, SameBoot: bits&2 != 0, Cleared: bits&4 != 0, Raised: bits&8 != 0,
					Successful: bits&16 != 0, FellBack: bits&32 != 0, Verified: bits&64 != 0, Panicked: bits&128 != 0, Permit: p, Verdict: v,
				}
				if !yield(o) {
					return
				}
			}
		}
	}
}

// The rules that hold for every observation, each with the invariant it comes from.
func TestNextKeepsItsRulesForEveryObservation(t *testing.T) {
	rules := []struct {
		name   string
		broken func(Phase, Observation, Step) bool
	}{
		{"a slot is written only while its boot record is cleared, and never while it runs",
			func(_ Phase, o Observation, s Step) bool { return s == StepStage && (!o.Cleared || o.OnTrial) }},
		{"a slot is armed only after it was read back in the boot that arms it",
			func(p Phase, o Observation, s Step) bool { return s == StepMarkArmed && !o.Verified }},
		{"the boot record is raised only after the journal says armed",
			func(p Phase, _ Observation, s Step) bool { return s == StepArm && p != Armed }},
		{"the boot record is raised only in the boot that armed it",
			func(_ Phase, o Observation, s Step) bool { return s == StepArm && !o.SameBoot }},
		{"only a healthy verdict, of the slot that runs, commits",
			func(_ Phase, o Observation, s Step) bool {
				return s == StepCommit && (o.Verdict != VerdictHealthy || !o.OnTrial)
			}},
		{"the journal says reverting before the boot record turns back",
			func(p Phase, _ Observation, s Step) bool { return s == StepRevert && p != Reverting }},
		{"a rollback is recorded only when the old slot runs and the new one cannot boot",
			func(_ Phase, o Observation, s Step) bool { return s == StepFinishRevert && (o.OnTrial || !o.Cleared) }},
		{"a lost trial is recorded only when the slot cannot boot any more",
			func(_ Phase, o Observation, s Step) bool { return s == StepFinishLost && (!o.Cleared || o.OnTrial) }},
		{"evidence against a release is taken before the record that holds it is cleared",
			func(p Phase, o Observation, s Step) bool {
				return p == Armed && !o.OnTrial && !o.SameBoot && (o.FellBack || o.Panicked) && s != StepMarkReverting
			}},
		{"nothing that permission gates happens without it",
			func(p Phase, o Observation, s Step) bool {
				gated := s == StepClear || s == StepStage || s == StepMarkStaged || s == StepMarkArmed
				return gated && (p == Staging || p == Staged) && o.Permit != PermitYes
			}},
		{"permission is not asked on the way back",
			func(p Phase, o Observation, s Step) bool {
				free := o
				free.Permit = PermitYes
				return (p == Armed || p == Reverting) && Next(p, free) != s
			}},
		{"only idle rests",
			func(p Phase, _ Observation, s Step) bool { return (s == StepRest) != (p == Idle) }},
	}
	for _, p := range phases {
		observations(func(o Observation) bool {
			s := Next(p, o)
			for _, r := range rules {
				if r.broken(p, o, s) {
					t.Errorf("%s: %s with %+v gives %q", r.name, p, o, s)
				}
			}
			return !t.Failed()
		})
	}
}

// facts names the observations that a decision of a phase can turn on.
var facts = []struct {
	name string
	get  func(Observation) string
}{
	{"permit", func(o Observation) string { return [...]string{"yes", "wait", "no"}[o.Permit] }},
	{"runs the slot", func(o Observation) string { return yesNo(o.OnTrial) }},
	{"armed in this boot", func(o Observation) string { return yesNo(o.SameBoot) }},
	{"slot cleared", func(o Observation) string { return yesNo(o.Cleared) }},
	{"slot raised", func(o Observation) string { return yesNo(o.Raised) }},
	{"slot successful", func(o Observation) string { return yesNo(o.Successful) }},
	{"loader fell back", func(o Observation) string { return yesNo(o.FellBack) }},
	{"kernel panicked", func(o Observation) string { return yesNo(o.Panicked) }},
	{"read back", func(o Observation) string { return yesNo(o.Verified) }},
	{"verdict", func(o Observation) string { return [...]string{"pending", "healthy", "unhealthy"}[o.Verdict] }},
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// table writes Next as a decision tree: every row is one path, with only the facts that
// decided it.
func table(p Phase) string {
	var all []Observation
	observations(func(o Observation) bool { all = append(all, o); return true })
	var rows []string
	var walk func(list []Observation, from int, path []string)
	walk = func(list []Observation, from int, path []string) {
		step := Next(p, list[0])
		same := true
		for _, o := range list[1:] {
			if Next(p, o) != step {
				same = false
				break
			}
		}
		if same {
			when := strings.Join(path, ", ")
			if when == "" {
				when = "always"
			}
			rows = append(rows, fmt.Sprintf("| %s | %s |", when, step))
			return
		}
		for f := from; f < len(facts); f++ {
			groups, order := map[string][]Observation{}, []string{}
			for _, o := range list {
				k := facts[f].get(o)
				if groups[k] == nil {
					order = append(order, k)
				}
				groups[k] = append(groups[k], o)
			}
			if !decides(p, groups, f) {
				continue
			}
			for _, k := range order {
				walk(groups[k], f+1, append(path[:len(path):len(path)], facts[f].name+": "+k))
			}
			return
		}
	}
	walk(all, 0, nil)
	return strings.Join(rows, "\n")
}

// decides reports whether fact f makes a difference while all others stay.
func decides(p Phase, groups map[string][]Observation, f int) bool {
	seen := map[string]Step{}
	for _, list := range groups {
		for _, o := range list {
			var key []string
			for i := range facts {
				if i != f {
					key = append(key, facts[i].get(o))
				}
			}
			k := strings.Join(key, "|")
			s := Next(p, o)
			if before, ok := seen[k]; ok && before != s {
				return true
			}
			seen[k] = s
		}
	}
	return false
}

func TestStatesDocumentIsWhatNextDoes(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`# States

This page is generated from ` + "`agent.Next`" + ` by ` + "`go test ./agent -run States -update`" + `, and a test
compares the two. Each row is one decision; facts that a row does not name make no difference to it.

"The slot" is the one that the transaction writes and tries. Two witnesses decide: the journal gives
the phase, the boot record and the boot give the facts. Starting, resuming after a power cut and
recovering are this one table.
`)
	for _, p := range phases {
		fmt.Fprintf(&b, "\n## %s\n\n| when | next step |\n| --- | --- |\n%s\n", p, table(p))
	}
	b.WriteString("\n# Applications\n\nGenerated from `agent.NextApp`. \"Quiet\": nothing of the apps that change runs, but for what the pointer says,\nand nothing is tried but what is about to be switched to; while the phase is switching, nothing at all runs. \"Beside\" (strategies\nparallel and socket, as far as the data allows them): the new set is tried beside the old one before the pointer turns.\n")
	for _, p := range appPhases {
		fmt.Fprintf(&b, "\n## %s of applications\n\n| when | next step |\n| --- | --- |\n%s\n", p, appTable(p))
	}
	const path = "../docs/STATES.md"
	if *updateStates {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("docs/STATES.md is not what Next does; go test ./agent -run States -update")
	}
}
