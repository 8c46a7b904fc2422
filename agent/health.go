package agent

import (
	"context"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/agent/health"
)

// judge runs rounds of probes until the trial's verdict. The deadline counts from the
// start of the boot, so an agent that crashes and comes back gains no time.
func (a *Agent) judge(ctx context.Context, t *Transaction) error {
	apps, err := a.startTrialApps(ctx, t)
	if err != nil {
		return err
	}
	if a.judging == nil {
		a.judging = health.NewJudge(a.o.Rules, slices.Concat(a.o.Probes, appProbes(apps)), t.Baseline)
	}
	for {
		// In every round: what could not be cloned or started at first may be now.
		if apps, err = a.startTrialApps(ctx, t); err != nil {
			return err
		}
		results := append(a.round(ctx), a.appResults(ctx, apps)...)
		if err := ctx.Err(); err != nil {
			return err
		}
		v := a.judging.Observe(a.o.Uptime(), results)
		a.progress(Event{Step: "health", Text: strings.Join(v.Reasons, "; ")})
		switch v.State {
		case health.Healthy:
			a.verdict, a.judged = VerdictHealthy, v
			return nil
		case health.Unhealthy:
			a.verdict, a.judged = VerdictUnhealthy, v
			return nil
		}
		if err := a.o.Clock.Sleep(ctx, a.o.Every); err != nil {
			return err
		}
	}
}

// round carries out every probe once.
func (a *Agent) round(ctx context.Context) []health.Result {
	results := make([]health.Result, 0, len(a.o.Probes))
	for _, p := range a.o.Probes {
		results = append(results, health.Result{Probe: p.Name, Err: a.o.Health.Check(ctx, p)})
	}
	return results
}

// baselineRounds is how often a probe has to fail before the trial to be excused in it:
// one transient failure must not let an unhealthy release pass.
const baselineRounds = 3

// baseline names the probes that fail before the trial, in every round.
func (a *Agent) baseline(ctx context.Context) ([]string, error) {
	var failing []string
	for i := range baselineRounds {
		if i > 0 {
			if err := a.o.Clock.Sleep(ctx, a.o.Every); err != nil {
				return nil, err
			}
		}
		failed := health.FailedIn(a.round(ctx))
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if i == 0 {
			failing = failed
		}
		failing = slices.DeleteFunc(failing, func(n string) bool { return !slices.Contains(failed, n) })
		if len(failing) == 0 {
			return nil, nil
		}
	}
	return failing, nil
}
