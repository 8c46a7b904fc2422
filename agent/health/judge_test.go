package health_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/agent/health"
)

var (
	errDown = errors.New("connection refused")
	rules   = health.Rules{Deadline: 10 * time.Minute, Soak: 2 * time.Minute}
	probes  = []health.Probe{
		{Name: "web", HTTP: "http://127.0.0.1/", Required: true},
		{Name: "db", TCP: "127.0.0.1:5432", Required: true},
		{Name: "server", HTTP: "https://updates.example.net/", Required: false},
	}
)

func results(web, db, server error) []health.Result {
	return []health.Result{{Probe: "web", Err: web}, {Probe: "db", Err: db}, {Probe: "server", Err: server}}
}

func TestVerdicts(t *testing.T) {
	type round struct {
		at   time.Duration
		r    []health.Result
		want health.State
	}
	good, bad := results(nil, nil, nil), results(errDown, nil, nil)
	m := time.Minute
	for _, c := range []struct {
		name     string
		baseline []string
		rounds   []round
	}{
		{"healthy after the soak", nil, []round{{0, good, health.Pending}, {2*m - 1, good, health.Pending}, {2 * m, good, health.Healthy}}},
		{"a failure begins the soak anew", nil, []round{{0, good, health.Pending}, {m, bad, health.Pending}, {2 * m, good, health.Pending}, {3 * m, good, health.Pending}, {4 * m, good, health.Healthy}}},
		{"unhealthy at the deadline", nil, []round{{0, bad, health.Pending}, {10*m - 1, bad, health.Pending}, {10 * m, bad, health.Unhealthy}}},
		{"a soak under way at the deadline may end", nil, []round{{9 * m, good, health.Pending}, {10 * m, good, health.Pending}, {11 * m, good, health.Healthy}}},
		{"a failure after the deadline is final", nil, []round{{9 * m, good, health.Pending}, {10*m + 1, bad, health.Unhealthy}, {11 * m, good, health.Unhealthy}}},
		{"good only after the deadline", nil, []round{{9 * m, bad, health.Pending}, {10*m + 1, good, health.Unhealthy}}},
		{"advisory probes condemn nothing", nil, []round{{0, results(nil, nil, errDown), health.Pending}, {2 * m, results(nil, nil, errDown), health.Healthy}}},
		{"what failed before condemns nothing", []string{"web"}, []round{{0, bad, health.Pending}, {2 * m, bad, health.Healthy}}},
		{"what failed before excuses only itself", []string{"web"}, []round{{0, results(errDown, errDown, nil), health.Pending}, {10 * m, results(errDown, errDown, nil), health.Unhealthy}}},
		{"a required probe that was not carried out counts as failed", nil, []round{{0, good[:1], health.Pending}, {10 * m, good[:1], health.Unhealthy}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := health.NewJudge(rules, probes, c.baseline)
			for i, r := range c.rounds {
				v := j.Observe(r.at, r.r)
				if v.State != r.want {
					t.Fatalf("round %d at %s: got %s (%s), want %s", i, r.at, v.State, strings.Join(v.Reasons, "; "), r.want)
				}
				if len(v.Reasons) == 0 {
					t.Fatalf("round %d at %s: a verdict without a reason", i, r.at)
				}
			}
		})
	}
}

func TestNoProbesMeansHealthyAfterTheSoak(t *testing.T) {
	j := health.NewJudge(rules, nil, nil)
	if v := j.Observe(0, nil); v.State != health.Pending {
		t.Errorf("at once: got %s", v.State)
	}
	if v := j.Observe(rules.Soak, nil); v.State != health.Healthy {
		t.Errorf("after the soak: got %s", v.State)
	}
}

func TestReasonsNameTheProbeAndItsWords(t *testing.T) {
	j := health.NewJudge(health.Rules{}, probes, []string{"db"})
	v := j.Observe(time.Second, results(&health.Failure{Text: "exit status 1", Output: "line 1\nline 2\n"}, errDown, errDown))
	got := strings.Join(v.Reasons, "\n")
	want := strings.Join([]string{
		"probe web: exit status 1",
		"the deadline of 0s has passed",
		"probe db: connection refused (failed before the trial too)",
		"probe server: connection refused (advisory)",
	}, "\n")
	if got != want {
		t.Errorf("reasons: got\n%s\nwant\n%s", got, want)
	}
	if got, want := strings.Join(v.Evidence, "|"), "web: line 1|web: line 2"; got != want {
		t.Errorf("evidence: got %q, want %q", got, want)
	}
}

func TestBaselineHoldsTheFailedProbes(t *testing.T) {
	got := health.FailedIn(results(nil, errDown, errDown))
	if strings.Join(got, ",") != "db,server" {
		t.Errorf("got %v", got)
	}
}

// Whatever happens, a verdict falls by Deadline + Soak (at the first round from then
// on), healthy is only said when the last rounds for the length of the soak were good,
// and the evidence stays within its bound.
func TestVerdictIsBoundedAndEarned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := health.Rules{
			Deadline: time.Duration(rapid.IntRange(0, 600).Draw(t, "deadline")) * time.Second,
			Soak:     time.Duration(rapid.IntRange(0, 300).Draw(t, "soak")) * time.Second,
		}
		j := health.NewJudge(r, probes, nil)
		var at, goodFrom time.Duration
		good := false
		for {
			at += time.Duration(rapid.IntRange(1, 60).Draw(t, "step")) * time.Second
			var err error
			if rapid.IntRange(0, 3).Draw(t, "fails") == 0 {
				err = &health.Failure{Text: "no", Output: strings.Repeat("words words\n", rapid.IntRange(0, 1000).Draw(t, "output"))}
			}
			if err != nil {
				good = false
			} else if !good {
				good, goodFrom = true, at
			}
			v := j.Observe(at, results(err, nil, nil))
			size := 0
			for _, l := range v.Evidence {
				size += len(l)
			}
			if size > health.MaxEvidence {
				t.Fatalf("evidence of %d bytes", size)
			}
			switch {
			case v.State == health.Healthy && (!good || at-goodFrom < r.Soak):
				t.Fatalf("healthy at %s, good=%v since %s, soak %s", at, good, goodFrom, r.Soak)
			case v.State == health.Unhealthy && at < r.Deadline:
				t.Fatalf("unhealthy at %s, before the deadline %s", at, r.Deadline)
			case v.State != health.Pending:
				return
			case at >= r.Deadline+r.Soak:
				t.Fatalf("still pending at %s, after %s + %s", at, r.Deadline, r.Soak)
			}
		}
	})
}
