package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/twinkeel/twinkeel/release"
)

var _ Operator = (*Agent)(nil)

// Do implements Operator. Questions are answered at any time; whatever changes something
// takes the agent for itself, and the operator's own decisions (rollback, hold, undeny)
// interrupt what is under way, which goes on afterwards where it was.
func (a *Agent) Do(ctx context.Context, r Request, emit func(Event)) (Result, error) {
	switch r.Verb {
	case VerbStatus:
		s, err := a.status(ctx)
		return Result{Status: s}, err
	case VerbHistory:
		h, err := a.events()
		return Result{History: h}, err
	case VerbDoctor:
		return Result{Doctor: a.doctor(ctx)}, nil
	case VerbApps:
		answer, err := a.askApps(ctx, r)
		return Result{Apps: answer}, err
	case VerbRollback, VerbHold, VerbUnhold, VerbUndeny:
		a.interrupt()
	case VerbApp:
		if r.App != nil && r.App.Do == AppLogs {
			// Output may hold secrets: it is for those who may change things.
			answer, err := a.logs(ctx, r)
			return Result{Apps: answer}, err
		}
		// An update waits for its turn; the operator's other decisions do not.
		if r.App != nil && r.App.Do != AppUpdate && r.App.Do != AppRehearse {
			a.interrupt()
		}
	case VerbCheck, VerbUpdate, VerbWhy, VerbVerify, VerbTrustReset, VerbInit:
	default:
		return Result{}, &Refusal{Reason{CodeUsage, fmt.Sprintf("unknown request %.40q", r.Verb)}, nil}
	}
	unlock, err := a.await(ctx, "another "+string(r.Verb))
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.working(cancel)
	defer a.working(nil)
	a.watch(emit)
	defer a.watch(nil)
	result, err := a.change(ctx, r)
	if err == nil && (result.Outcome == nil || !result.Outcome.Reboot) {
		// What the daemon does next may be another thing now; a reboot was asked for.
		a.nudge()
	}
	return result, err
}

// patience is how long a request waits for the agent: long enough for a poll to end,
// too short for a download or a trial.
const (
	patience     = 5 * time.Second
	patienceStep = 50 * time.Millisecond
)

// await is acquire for somebody who can wait a little.
func (a *Agent) await(ctx context.Context, what string) (func(), error) {
	for waited := time.Duration(0); ; waited += patienceStep {
		unlock, err := a.acquire(what)
		if CodeOf(err) != CodeBusy || waited >= patience {
			return unlock, err
		}
		if err := a.o.Clock.Sleep(ctx, patienceStep); err != nil {
			return nil, err
		}
	}
}

// change carries out a request that needs the agent for itself.
func (a *Agent) change(ctx context.Context, r Request) (Result, error) {
	if r.Verb == VerbInit {
		o, err := a.adopt(ctx, r.Factory)
		return Result{Outcome: o}, err
	}
	m, err := a.machine(ctx)
	if err != nil {
		return Result{}, err
	}
	if r.Verb == VerbRollback {
		o, err := a.rollback(ctx, m, r)
		return Result{Outcome: o}, err
	}
	if err := a.prepare(ctx, m); err != nil {
		return Result{}, err
	}
	switch r.Verb {
	case VerbCheck, VerbUpdate, VerbWhy:
		if err := a.decidedFirst(m); err != nil {
			return Result{}, err
		}
	}
	var o *Outcome
	switch r.Verb {
	case VerbCheck:
		o, err = a.check(ctx, m)
	case VerbUpdate:
		o, err = a.update(ctx, m, r)
	case VerbHold:
		o, err = a.setHold(ctx, m, r)
	case VerbUnhold:
		o, err = a.unhold()
	case VerbUndeny:
		o, err = a.allowAgain(ctx, m, r.Digest)
	case VerbTrustReset:
		o, err = a.trustReset()
	case VerbApp:
		o, err = a.changeApps(ctx, m, r)
	case VerbWhy:
		w, err := a.why(ctx, m)
		return Result{Why: w}, err
	case VerbVerify:
		v, err := a.verify(ctx, r.Slot)
		return Result{Verify: v}, err
	}
	return Result{Outcome: o}, err
}

// decidedFirst refuses what asks a server, which may let it wait, while something on trial
// waits for its verdict: the deadline would pass meanwhile, and what is healthy be left.
func (a *Agent) decidedFirst(m machine) error {
	t, err := a.journal(m)
	if err != nil {
		return err
	}
	if t.Phase == Armed && t.Slot == m.boot.Slot {
		return &Refusal{Reason{CodeBusy, fmt.Sprintf("os-trial: slot %s is on trial; ask again when that is decided", t.Slot)}, nil}
	}
	apps, err := a.appTransaction(m)
	if err != nil {
		return err
	}
	if apps.Phase != AppIdle && apps.Phase != AppStaging {
		return &Refusal{Reason{CodeBusy, fmt.Sprintf("transaction %d of applications is %s; ask again when that is decided", apps.Seq, apps.Phase)}, nil}
	}
	return nil
}

// interrupt stops the work under way, and waits until it has stopped.
func (a *Agent) interrupt() {
	a.mem.Lock()
	if a.cancel != nil {
		a.cancel()
	}
	a.mem.Unlock()
	a.op.Lock()
	defer a.op.Unlock()
}

func (a *Agent) watch(emit func(Event)) {
	a.mem.Lock()
	defer a.mem.Unlock()
	a.emit = emit
}

func (a *Agent) check(ctx context.Context, m machine) (*Outcome, error) {
	d, err := a.decide(ctx, m, wish{})
	if err != nil {
		a.note(nil, err)
		return nil, err
	}
	a.price(ctx, m, d)
	a.note(d, nil)
	return d.outcome(), nil
}

// outcome says what was found, with the reasons in the order of their weight.
func (d *decision) outcome() *Outcome {
	o := &Outcome{Offer: d.offer, Reasons: d.reasons()}
	switch {
	case d.ok():
		o.Text = fmt.Sprintf("release %s can be installed", d.manifest.Version)
	case len(o.Reasons) > 0:
		o.Text = o.Reasons[0].Text
	}
	return o
}

// update installs the newest permitted release, or the one that was named, up to the
// reboot into its trial.
func (a *Agent) update(ctx context.Context, m machine, r Request) (*Outcome, error) {
	if err := a.st.writable(); err != nil {
		return nil, err
	}
	t, err := a.journal(m)
	if err != nil {
		return nil, err
	}
	if t.Phase == Armed || t.Phase == Reverting {
		return nil, &Refusal{Reason{CodeBusy, fmt.Sprintf("transaction %d is %s: slot %s is on trial", t.Seq, t.Phase, t.Slot)}, nil}
	}
	if r.Bundle != nil {
		a.net = a.o.Bundle(r.Bundle)
		defer func() { a.net = a.o.Net }()
	}
	w := wish{version: r.Version, now: r.Now || r.Bundle != nil, force: r.Force}
	d, err := a.decide(ctx, m, w)
	if err != nil {
		a.note(nil, err)
		return nil, err
	}
	a.price(ctx, m, d)
	a.note(d, nil)
	if !d.ok() {
		o := d.outcome()
		return o, &Refusal{o.Reasons[0], nil}
	}
	if err := a.take(m, d, t, w, r); err != nil {
		return nil, err
	}
	step, t, err := a.advance(ctx)
	if err != nil {
		return nil, err
	}
	o := &Outcome{Offer: d.offer, Reboot: step == StepReboot}
	switch {
	case step == StepReboot && r.NoReboot:
		o.Text = fmt.Sprintf("release %s is in slot %s and is tried at the next boot", d.manifest.Version, t.Slot)
	case step == StepReboot:
		o.Text = fmt.Sprintf("release %s is in slot %s; rebooting into its trial", d.manifest.Version, t.Slot)
	default:
		o.Text = fmt.Sprintf("release %s is %s", d.manifest.Version, t.Phase)
	}
	return o, nil
}

// take opens the transaction for d, or makes the one under way for the same release the
// operator's.
func (a *Agent) take(m machine, d *decision, t Transaction, w wish, r Request) error {
	mine := func(t *Transaction) {
		t.Now, t.Force, t.NoReboot, t.Offline = w.now, w.force, r.NoReboot, r.Bundle != nil
		t.RetryAt = time.Time{}
	}
	if t.Phase != Idle {
		if to, err := a.st.deployment(t.To); err == nil && to != nil && to.Digest == d.manifest.Deployment() && t.Kind == KindUpdate {
			mine(&t)
			return a.save(&t)
		}
		if err := a.finish(&t, HistoryEntry{Result: "abandoned", Code: CodeByHand, Text: "the operator wants release " + d.manifest.Version.String()}); err != nil {
			return err
		}
	}
	next := Transaction{Seq: t.Seq + 1, Slot: m.boot.Slot.Other()}
	mine(&next)
	return a.begin(m, d, next)
}

func (a *Agent) setHold(ctx context.Context, m machine, r Request) (*Outcome, error) {
	if !r.Until.IsZero() && !r.Until.After(a.now()) {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("hold until %s: that has passed", r.Until.Format(time.RFC3339))}, nil}
	}
	if err := a.takeBackArming(ctx, m); err != nil {
		return nil, err
	}
	if err := a.st.save(fileHold, &Hold{Until: r.Until, Reason: r.Reason, Since: a.now()}); err != nil {
		return nil, err
	}
	text := "updates are held until unhold"
	if !r.Until.IsZero() {
		text = "updates are held until " + r.Until.UTC().Format(time.RFC3339)
	}
	return &Outcome{Text: text}, a.st.record(HistoryEntry{Time: a.now(), Kind: "hold", Result: "done", Text: r.Reason})
}

// takeBackArming makes an update that was about to be armed a staged one again, which waits
// as long as updates are held. What the boot record says already is left to rollback.
func (a *Agent) takeBackArming(ctx context.Context, m machine) error {
	t, err := a.journal(m)
	if err != nil {
		return err
	}
	o := a.observe(m, &t)
	if t.Phase != Armed || t.Kind != KindUpdate || t.Force || o.OnTrial || !o.SameBoot || o.Raised {
		return nil
	}
	if err := a.settle(ctx, m, &t); err != nil {
		return err
	}
	if err := a.leaveTrialApps(&t, "updates are held"); err != nil {
		return err
	}
	t.Phase, t.ArmedIn = Staged, ""
	t.Arms--
	return a.save(&t)
}

func (a *Agent) unhold() (*Outcome, error) {
	h, err := a.st.hold(a.now())
	if rerr := a.st.remove(fileHold); rerr != nil {
		return nil, rerr
	}
	// A hold that cannot be read was one until now.
	if h == nil && err == nil {
		return &Outcome{Text: "updates were not held"}, nil
	}
	return &Outcome{Text: "updates are no longer held"}, a.st.record(HistoryEntry{Time: a.now(), Kind: "unhold", Result: "done"})
}

// allowAgain takes back a denial, in the boot record too.
func (a *Agent) allowAgain(ctx context.Context, m machine, d release.Digest) (*Outcome, error) {
	found, err := a.st.undeny(d)
	if err != nil {
		return nil, err
	}
	if m.record.Denied == d && !d.IsZero() {
		s := m.record
		s.Denied, s.DeniedAttempt = release.Digest{}, 0
		if err := a.store(ctx, s); err != nil {
			return nil, err
		}
		found = true
	}
	if !found {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("deployment %s is not denied", d.Short())}, nil}
	}
	return &Outcome{Text: "deployment " + d.Short() + " may be installed again"},
		a.st.record(HistoryEntry{Time: a.now(), Kind: "undeny", Result: "done", Text: d.String()})
}

func (a *Agent) trustReset() (*Outcome, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	if err := c.Reset(); err != nil {
		return nil, err
	}
	return &Outcome{Text: "trust starts anew from the factory root; rollback protection begins with the next check"},
		a.st.record(HistoryEntry{Time: a.now(), Kind: "trust-reset", Result: "done"})
}

// why explains what would be done next. It asks the server where it can, and otherwise
// explains from what is known.
func (a *Agent) why(ctx context.Context, m machine) (*Why, error) {
	t, err := a.journal(m)
	if err != nil {
		return nil, err
	}
	d, err := a.decide(ctx, m, wish{})
	var w Why
	if err != nil {
		w.Reasons = append(w.Reasons, reasonOf(err))
		d, err = a.decide(ctx, m, wish{cached: true})
	}
	if err == nil {
		a.price(ctx, m, d)
		w.Offer, w.Routes = d.offer, d.routes
		w.Reasons = append(w.Reasons, d.reasons()...)
	}
	switch {
	case t.Phase != Idle:
		w.Text = fmt.Sprintf("transaction %d (%s of slot %s to %s) is %s", t.Seq, t.Kind, t.Slot, a.versionOf(t.To), t.Phase)
		if a.o.Clock.Now().Before(t.RetryAt) {
			w.Reasons = append([]Reason{{CodeRetry, "the trial was lost and is armed again at " + t.RetryAt.Format(time.RFC3339)}}, w.Reasons...)
		}
	case len(w.Reasons) > 0:
		w.Text = "nothing is installed: " + w.Reasons[0].Text
	case d != nil && d.manifest != nil:
		w.Text = fmt.Sprintf("release %s will be installed at the next poll", d.manifest.Version)
	}
	w.Left = a.newestLeft()
	return &w, nil
}
