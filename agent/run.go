package agent

import (
	"context"
	"errors"
	"time"

	"github.com/twinkeel/twinkeel/agent/policy"
)

// RetryAfter is an error that says when to ask again.
type RetryAfter interface {
	error
	After() time.Duration
}

// Run is the daemon's life: it resumes what was under way, then polls, until ctx is done.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.Own(); err != nil && CodeOf(err) != CodeState {
		return err
	}
	// What was interrupted goes on at once; the first poll waits a random while.
	wait := a.cycle(ctx, false)
	first := policy.Poll{Interval: a.o.Interval, HostID: a.o.HostID}.First(a.o.Random())
	if a.phase(ctx) == Idle {
		wait = first
	}
	for ctx.Err() == nil {
		if err := a.rest(ctx, wait); err != nil {
			break
		}
		wait = a.cycle(ctx, true)
	}
	return ctx.Err()
}

// Once resumes what is under way, polls once, and goes as far as it comes.
func (a *Agent) Once(ctx context.Context) error {
	a.cycle(ctx, true)
	a.mem.Lock()
	defer a.mem.Unlock()
	return a.last.err
}

// sleep waits, but not longer than until something changed: woken.
func (a *Agent) sleep(ctx context.Context, d time.Duration) (woken bool, err error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	a.mem.Lock()
	a.wake, a.poke = cancel, false
	a.mem.Unlock()
	// Only the outer context ends the agent; the inner one ends the nap.
	_ = a.o.Clock.Sleep(inner, d)
	return inner.Err() != nil, ctx.Err()
}

// cycle does one round of work and returns how long to wait for the next.
func (a *Agent) cycle(ctx context.Context, poll bool) time.Duration {
	release, err := a.acquire("the daemon's own round")
	if err != nil {
		a.note(nil, err)
		if CodeOf(err) == CodeBusy {
			return patience // a trial must not wait as long as a poll
		}
		return a.next(Transaction{})
	}
	defer release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.working(cancel)
	defer a.working(nil)
	step, t, err := a.advance(ctx)
	resting := err == nil && step == StepRest
	if resting && poll && len(a.o.Images) > 0 {
		if err = a.poll(ctx, t); err == nil {
			step, t, err = a.advance(ctx)
		}
	}
	if aerr := a.cycleApps(ctx, poll && resting); aerr != nil && err == nil {
		err = aerr
	}
	// Work that was interrupted, by an operator or by the end of the daemon, did not fail.
	if err != nil && ctx.Err() == nil {
		a.log.Error("cycle ended with an error", "step", step, "txn", t.Seq, "code", CodeOf(err), "err", err)
		a.note(nil, err)
	}
	if err != nil {
		// Where it broke off is no matter: a trial must not wait as long as a poll.
		t.Phase = a.phase(ctx)
	}
	return a.next(t)
}

// working notes how to stop the work under way, for a request that goes before it.
func (a *Agent) working(cancel context.CancelFunc) {
	a.mem.Lock()
	defer a.mem.Unlock()
	a.cancel = cancel
	if cancel == nil {
		a.event = nil
	}
}

// poll asks what this host should run, and opens a transaction if it may.
func (a *Agent) poll(ctx context.Context, t Transaction) error {
	m, err := a.machine(ctx)
	if err != nil {
		return err
	}
	w := wish{}
	d, err := a.decide(ctx, m, w)
	if again := a.refill(m); err == nil && !d.ok() && again != w {
		// What runs is damaged, and nothing newer is for this host at this moment.
		if same, serr := a.decide(ctx, m, again); serr == nil && same.ok() {
			d, w = same, again
		}
	}
	if err != nil {
		return err
	}
	a.price(ctx, m, d)
	a.note(d, nil)
	if !d.ok() {
		a.log.Info("nothing to do", "reasons", d.reasons())
		return nil
	}
	return a.begin(m, d, Transaction{Seq: t.Seq + 1, Slot: m.boot.Slot.Other(), Now: w.now})
}

// note keeps what a check found, in memory.
func (a *Agent) note(d *decision, err error) {
	a.mem.Lock()
	defer a.mem.Unlock()
	a.last.err, a.last.after = err, 0
	if a.trust != nil {
		a.last.trust, a.last.expires, a.last.clockBehind = a.trust.State(), a.trust.Expires(), a.trust.ClockBehind()
	}
	if err != nil {
		var wait RetryAfter
		if errors.As(err, &wait) {
			a.last.after = wait.After()
		}
		a.last.failed++
		a.last.reasons = []Reason{reasonOf(err)}
		return
	}
	a.last.at, a.last.failed, a.last.reasons, a.last.interval = a.now(), 0, d.reasons(), 0
	if d.directive != nil && d.directive.PollInterval != "" {
		// It was validated when the directive was decoded.
		a.last.interval, _ = time.ParseDuration(d.directive.PollInterval)
	}
	a.last.offer, a.last.withdrawn = d.offer, d.withdrawn
}

// price works out what the release would cost to fetch, for people. It is no condition.
func (a *Agent) price(ctx context.Context, m machine, d *decision) {
	if d.manifest == nil || contains(d.never, CodeCurrent) {
		return
	}
	plans, err := a.plan(m, m.boot.Slot.Other(), d.manifest)
	if err != nil {
		d.later = append(d.later, reasonOf(err))
		return
	}
	if len(d.never) == 0 {
		for i := range plans {
			// What cannot be priced now is priced by the next poll, or never.
			_ = a.weigh(ctx, &plans[i], nil)
		}
	}
	d.offer = offer(d.manifest, plans)
	for _, p := range plans {
		d.routes = append(d.routes, p.all...)
	}
}

func contains(list []Reason, code string) bool {
	for _, r := range list {
		if r.Code == code {
			return true
		}
	}
	return false
}

// next is how long to wait for the next cycle.
func (a *Agent) next(t Transaction) time.Duration {
	a.mem.Lock()
	defer a.mem.Unlock()
	a.polls++
	p := policy.Poll{Interval: a.o.Interval, HostID: a.o.HostID}
	if a.last.interval > 0 {
		p.Interval = a.last.interval
	}
	wait := p.Next(a.polls, a.last.failed, a.last.after)
	now := a.o.Clock.Now()
	if d := t.RetryAt.Sub(now); t.Phase == Staged && d > 0 && d < wait {
		wait = d
	}
	if open := a.o.Windows.Next(now, a.o.Location).Sub(now); t.Phase == Staged && open > 0 && open < wait {
		wait = open
	}
	if t.Phase == Armed || t.Phase == Reverting {
		// A reboot was asked for and has not come, or the trial could not be judged.
		wait = min(wait, time.Minute)
	}
	return wait
}

// underWay is the phase of the transaction; where the journal cannot be read, Idle unless the
// boot record tells of a trial. Whoever needs to know that nothing is under way reads the journal.
func (a *Agent) underWay(m machine) Phase {
	t, err := a.st.journal()
	switch {
	case err == nil && (t.Phase == Armed || t.Phase == Reverting):
		return t.Phase
	case m.onTrial():
		return Armed // whatever an old journal says
	case err != nil:
		return Idle
	}
	return t.Phase
}

// phase is underWay for who has not asked the boot loader; a record that cannot be read
// tells of no trial.
func (a *Agent) phase(ctx context.Context) Phase {
	m, err := a.machine(ctx)
	if err != nil {
		m = machine{}
	}
	return a.underWay(m)
}

// nudge ends the daemon's nap.
func (a *Agent) nudge() {
	a.mem.Lock()
	defer a.mem.Unlock()
	if a.wake != nil {
		a.poke = true
		a.wake()
	}
}
