package agent

import (
	"fmt"
	"strings"
	"testing"
)

var appPhases = []AppPhase{AppIdle, AppStaging, AppSwitching, AppTrial, AppReverting}

// appFacts are what NextApp may look at, in the order in which a table names them.
var appFacts = []struct {
	name   string
	values []string
	set    func(*AppObservation, int)
}{
	{"permit", []string{"yes", "wait", "no"}, func(o *AppObservation, i int) { o.Permit = Permit(i) }},
	{"staged", []string{"no", "yes"}, func(o *AppObservation, i int) { o.Staged = i == 1 }},
	{"flipped", []string{"no", "yes"}, func(o *AppObservation, i int) { o.Flipped = i == 1 }},
	{"beside", []string{"no", "yes"}, func(o *AppObservation, i int) { o.Beside = i == 1 }},
	{"verdict", []string{"pending", "healthy", "unhealthy"}, func(o *AppObservation, i int) { o.Verdict = Verdict(i) }},
	{"boot counted", []string{"no", "yes"}, func(o *AppObservation, i int) { o.Counted = i == 1 }},
	{"tried", []string{"no", "yes"}, func(o *AppObservation, i int) { o.Tried = i == 1 }},
	{"quiet", []string{"no", "yes"}, func(o *AppObservation, i int) { o.Quiet = i == 1 }},
	{"running", []string{"no", "yes"}, func(o *AppObservation, i int) { o.Running = i == 1 }},
	{"cloned", []string{"no", "yes"}, func(o *AppObservation, i int) { o.Cloned = i == 1 }},
}

// appTable writes NextApp as a decision tree, as table does with Next.
func appTable(p AppPhase) string {
	var rows []string
	var walk func(o AppObservation, from int, path []string)
	walk = func(o AppObservation, from int, path []string) {
		if from == len(appFacts) || appSteps(p, o, from) == 1 {
			rows = append(rows, fmt.Sprintf("| %s | %s |", orAlways(path), NextApp(p, o)))
			return
		}
		f := appFacts[from]
		outcomes := map[string]bool{}
		for i := range f.values {
			f.set(&o, i)
			outcomes[appSignature(p, o, from+1)] = true
		}
		if len(outcomes) == 1 {
			walk(o, from+1, path)
			return
		}
		for i, v := range f.values {
			f.set(&o, i)
			walk(o, from+1, append(path[:len(path):len(path)], f.name+": "+v))
		}
	}
	walk(AppObservation{}, 0, nil)
	return strings.Join(rows, "\n")
}

func orAlways(path []string) string {
	if len(path) == 0 {
		return "always"
	}
	return strings.Join(path, ", ")
}

// everyApp calls f with every observation that agrees with o up to fact from.
func everyApp(o AppObservation, from int, f func(AppObservation)) {
	if from == len(appFacts) {
		f(o)
		return
	}
	for i := range appFacts[from].values {
		appFacts[from].set(&o, i)
		everyApp(o, from+1, f)
	}
}

func appSteps(p AppPhase, o AppObservation, from int) int {
	steps := map[AppStep]bool{}
	everyApp(o, from, func(o AppObservation) { steps[NextApp(p, o)] = true })
	return len(steps)
}

func appSignature(p AppPhase, o AppObservation, from int) string {
	var b strings.Builder
	everyApp(o, from, func(o AppObservation) { b.WriteString(string(NextApp(p, o)) + "|") })
	return b.String()
}

func TestApplicationsAreOnlyTouchedOnceTheirDataIsSafe(t *testing.T) {
	for _, p := range appPhases {
		everyApp(AppObservation{}, 0, func(o AppObservation) {
			s := NextApp(p, o)
			switch {
			case s == "":
				t.Errorf("%s, %+v: no step", p, o)
			case p == AppStaging && (s == AppStop || s == AppClone || s == AppFlip || s == AppStart):
				t.Errorf("%s, %+v: %s touches what runs", p, o, s)
			case s == AppMarkSwitching && !o.Staged:
				t.Errorf("%s, %+v: switching to what is not here", p, o)
			case s == AppClone && !o.Quiet:
				t.Errorf("%s, %+v: data is cloned while somebody writes to it", p, o)
			case s == AppFlip && !(o.Quiet && o.Cloned):
				t.Errorf("%s, %+v: the pointer turns to data that is not there", p, o)
			case s == AppStart && !(o.Quiet && (o.Flipped || p == AppSwitching && o.Beside)):
				t.Errorf("%s, %+v: an app is started that the pointer does not say", p, o)
			case s == AppTry && !(o.Beside && o.Running && o.Cloned && !o.Flipped):
				t.Errorf("%s, %+v: something is tried beside nothing, or without its data", p, o)
			case !o.Counted && (s == AppTry || s == AppSwitch || s == AppStart && p == AppTrial):
				t.Errorf("%s, %+v: the new set runs in a boot that is not counted", p, o)
			case s == AppFlip && o.Beside && !(o.Running && o.Tried && o.Verdict == VerdictHealthy):
				t.Errorf("%s, %+v: the pointer turns to what was not found healthy beside the old set", p, o)
			case s == AppSwitch && !(o.Flipped && o.Tried && o.Verdict != VerdictUnhealthy):
				t.Errorf("%s, %+v: clients are led to what the pointer does not say", p, o)
			case s == AppCommit && (o.Verdict != VerdictHealthy || !o.Flipped || !o.Running):
				t.Errorf("%s, %+v: a commit without a healthy verdict over what runs", p, o)
			case s == AppFinishRevert && o.Flipped:
				t.Errorf("%s, %+v: it ends with the new set chosen", p, o)
			}
		})
	}
}
