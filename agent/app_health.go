package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// appHealth is nil if an app runs as deployed and its check passes.
func (a *Agent) appHealth(ctx context.Context, w DeployedApp) error {
	s, err := a.o.Apps.Prober.Status(ctx, w.Name)
	if err == nil {
		err = runsAs(s, w)
	}
	if err != nil {
		return err
	}
	return a.o.Apps.Prober.Healthy(ctx, w.Name)
}

// runsAs is nil if a state is that of the deployed app, running.
func runsAs(s workloads.State, w DeployedApp) error {
	switch {
	case s.Looping:
		return fmt.Errorf("it ends again and again: %s", s.Exit)
	case !s.Running:
		return fmt.Errorf("it does not run: %s", s.Exit)
	case s.App != w.App || s.Generation != w.Generation:
		return fmt.Errorf("version %s runs on data %s, want %s on %s", s.Version, s.Generation, w.Version, w.Generation)
	}
	return nil
}

// patient judges one app: failures in a row, and how long it has been good.
type patient struct {
	app    DeployedApp
	rules  release.AppHealth
	good   time.Time // since when the check passes; zero: it does not
	once   bool      // it passed at least once
	failed int       // in a row since then
	first  error     // of that row: what came of it may hide why
	last   error
}

// observe takes one check into account, and returns the verdict over the app.
func (p *patient) observe(now, start time.Time, err error) Verdict {
	if p.last = err; err == nil {
		p.once, p.failed = true, 0
		if p.good.IsZero() {
			p.good = now
		}
		if now.Sub(p.good) >= time.Duration(p.rules.Probation) {
			return VerdictHealthy
		}
		return VerdictPending
	}
	if p.once {
		if p.failed++; p.failed == 1 {
			p.first = err
		}
	}
	if p.failed >= p.rules.Failures {
		return VerdictUnhealthy
	}
	if !p.once && now.Sub(start) >= time.Duration(p.rules.Start) {
		return VerdictUnhealthy
	}
	return VerdictPending
}

// why is what a verdict says of an app that failed: such as that its shim was gone, and then
// that what was started again did not answer yet.
func (p *patient) why() string {
	text := reasonOf(p.last).Text
	if p.first == nil || reasonOf(p.first).Text == text {
		return text
	}
	return reasonOf(p.first).Text + "; then " + text
}

// judgeApps checks the apps that changed until each was good throughout its probation, or
// one failed: beside the old set what is tried, in its place what runs.
func (a *Agent) judgeApps(ctx context.Context, t *AppTransaction) error {
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	var patients []*patient
	interval := time.Minute
	for _, name := range t.Apps {
		w, has := to.App(name)
		if !has {
			continue
		}
		mf, err := a.appManifest(w.App)
		if err != nil {
			return err
		}
		patients = append(patients, &patient{app: w, rules: mf.Health})
		interval = min(interval, time.Duration(mf.Health.Interval))
	}
	check := a.appHealth
	if t.Phase == AppSwitching {
		check = a.triedHealth
	}
	start := a.o.Clock.Now()
	for {
		healthy := 0
		for _, p := range patients {
			limited, cancel := context.WithTimeout(ctx, time.Duration(p.rules.Timeout)+time.Second)
			err := check(limited, p.app)
			cancel()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			switch p.observe(a.o.Clock.Now(), start, err) {
			case VerdictUnhealthy:
				a.condemn(CodeUnhealthy, fmt.Sprintf("app %s %s: %s", p.app.Name, p.app.Version, p.why()))
				a.appEvidence = a.evidenceOf(ctx, t, p.app.Name)
				return nil
			case VerdictHealthy:
				healthy++
			}
		}
		if healthy == len(patients) {
			a.appVerdict = VerdictHealthy
			return nil
		}
		a.progress(Event{Step: "health", Text: appHealthText(patients)})
		if err := a.o.Clock.Sleep(ctx, interval); err != nil {
			return err
		}
	}
}

func appHealthText(patients []*patient) string {
	var texts []string
	for _, p := range patients {
		text := "app " + p.app.Name + ": good"
		if p.last != nil {
			text = fmt.Sprintf("app %s: %v", p.app.Name, p.last)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

// maxEvidence bounds the lines that are kept of an app that failed.
const maxEvidence = 20

// evidenceOf is the end of an app's output, where the runner shows it: of what is tried,
// or of what runs.
func (a *Agent) evidenceOf(ctx context.Context, t *AppTransaction, name string) []string {
	var out limited
	var err error
	if t.Phase == AppSwitching {
		err = a.switcher().TriedLogs(ctx, name, maxEvidence, &out)
	} else if console := a.console(); console != nil {
		err = console.Logs(ctx, name, maxEvidence, false, &out)
	}
	if err != nil || len(out) == 0 {
		return nil
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	return lines[max(0, len(lines)-maxEvidence):]
}

// limited keeps the first bytes that are written to it.
type limited []byte

const maxLimited = 16 << 10

// Write implements io.Writer and never fails.
func (l *limited) Write(b []byte) (int, error) {
	*l = append(*l, b[:min(len(b), maxLimited-len(*l))]...)
	return len(b), nil
}
