package agent

import (
	"context"
	"strings"

	"github.com/twinkeel/twinkeel/agent/health"
)

// judge runs rounds of probes until the trial's verdict. The deadline counts from the
// start of the boot, so an agent that crashes and comes back gains no time.
func (a *Agent) judge(ctx context.Context, t *Transaction) error {
	if a.judging == nil {
		a.judging = health.NewJudge(a.o.Rules, a.o.Probes, t.Baseline)
	}
	for {
		results := a.round(ctx)
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

// baseline names the probes that fail before the trial.
func (a *Agent) baseline(ctx context.Context) []string { return health.FailedIn(a.round(ctx)) }
