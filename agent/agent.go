package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/twinkeel/twinkeel/agent/health"
	"github.com/twinkeel/twinkeel/agent/policy"
	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/workloads"
)

// Options is everything an agent needs: what the host is, and how to reach the world.
type Options struct {
	Updater    release.Version // of this agent, compared with a manifest's minUpdater
	Channel    string
	Fleet      string // whose directive counts; "": the channel's name
	Compatible string
	HostID     string
	Rollout    string   // policy.RolloutDirective or policy.RolloutAll
	Images     []string // the images that a slot has partitions for
	Tries      uint8    // trial boots of an armed slot
	Windows    policy.Windows
	Location   *time.Location // of the windows
	Interval   time.Duration  // between polls
	Rules      health.Rules
	Every      time.Duration // between rounds of probes
	Probes     []Probe

	State       durable.Dir // nil: there is none
	StateErr    error       // why State is nil
	StateFormat int         // newest format this agent reads; 0: StateFormat
	Factory     []byte      // the first TUF root
	BuildTime   time.Time   // the clock is never believed to be before this
	// Verdicts over metadata may be shared by agents; nil: this one has its own.
	Verdicts *signing.Verdicts
	// Records of the state directory likewise.
	Records *Records
	// Hashes of spans of images likewise; nil: each span is hashed when it is read.
	Hashes *verity.Hashes

	Slots  Slots
	Loader bootloader.BootLoader
	// LoaderReason is why it is this loader, for doctor.
	LoaderReason string

	Net    Net
	Bundle func(*os.File) Net // Net over an offline bundle
	Health Health
	Clock  Clock
	Uptime func() time.Duration // since this boot began
	Random func() uint64
	Reboot func(context.Context) error // asks for a reboot and returns
	Apps   *Apps                       // nil: this host runs no applications
	Log    *slog.Logger

	// KernelLog returns the end of the kernel's log of the last boot of a slot with this
	// root, for people, and when a kernel of such a boot panicked last; zero: nothing says
	// that one did. Panics before after do not count. nil: nobody keeps it.
	KernelLog func(slot partitions.Slot, root release.Digest, after time.Time) (words []string, panicked time.Time)
	// Damage says what the first stage found wrong with the root that runs, in this boot;
	// "" for nothing. nil: nobody looks.
	Damage func() string
}

// Agent is the host's side of updates: one transaction at a time.
type Agent struct {
	o     Options
	st    *store
	log   *slog.Logger
	trust *signing.Client // nil until it is needed

	op      sync.Mutex     // held by whatever may change something
	owner   bool           // holds the state directory's lock for good
	ready   bool           // state was recovered in this process
	settled bool           // what the boot record says is durable, as far as this process knows
	net     Net            // the server, or a bundle while one is used
	verdict Verdict        // of the trial in this boot
	judged  health.Verdict // its reasons and evidence
	judging *health.Judge  // of the trial in this boot, once it began
	prices  []priced       // of blocks, as they were found out; the newest last

	appsOpen    sync.Mutex // guards appStore alone, which is made when it is first needed
	appStore    *store
	appVerdict  Verdict
	appReason   *Reason // of the verdict
	appAgainst  *Reason // what is against a transaction that only fetches
	appEvidence []string
	appSettled  bool // settleApps was done
	appsMended  bool // mendApps was done
	// appVerified are images of applications as this process found them to be whole.
	appVerified map[release.Digest]workloads.Identity
	// appLate says until when the updates of applications wait whose data took too long to copy.
	appLate      map[string]time.Time
	appRestarted uint64 // the transaction for which the old set was started once more

	mem        sync.Mutex         // guards what follows
	wake       context.CancelFunc // ends the daemon's nap
	poke       bool               // it was ended for a poll
	polls      uint64
	doing      string // what op's holder does, for people
	doingSince time.Time
	cancel     context.CancelFunc // of the work that op's holder does
	last       lastCheck
	event      *Event
	emit       func(Event)

	appOffers   map[string]appOffer // what the newest poll found, by name
	appProblems map[string]Reason   // why apps do not run, by name
	appBroken   bool                // see noteBroken
}

// lastCheck is what the newest poll found. It is not kept on disk: a poll that finds
// nothing writes nothing.
type lastCheck struct {
	at       time.Time
	offer    *Offer
	reasons  []Reason
	err      error
	failed   int           // polls in a row
	after    time.Duration // what the server asked to wait
	interval time.Duration // the directive's; 0: none

	trust       signing.State
	expires     time.Time // of the trust metadata
	clockBehind bool
	withdrawn   string // decision.withdrawn
}

// New returns an agent that has not touched anything yet.
func New(o Options) (*Agent, error) {
	if o.Fleet == "" {
		o.Fleet = o.Channel
	}
	if o.StateFormat == 0 {
		o.StateFormat = StateFormat
	}
	if o.Tries < 1 || o.Tries > bootloader.MaxTries {
		return nil, fmt.Errorf("tries: got %d, want 1 to %d", o.Tries, bootloader.MaxTries)
	}
	if o.Records == nil {
		o.Records = &Records{}
	}
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.Every <= 0 {
		// Often enough that a short soak is not stretched, and no more than that.
		o.Every = min(max(o.Rules.Soak/5, 200*time.Millisecond), 5*time.Second)
	}
	return &Agent{
		o: o, log: o.Log,
		net: o.Net,
		st:  &store{dir: o.State, err: o.StateErr, reads: o.StateFormat, writes: new(1), known: o.Records},
	}, nil
}

// acquire takes the agent for one piece of work that may change something: no other
// goroutine and no other process does so meanwhile. Who comes in vain is told what it is.
func (a *Agent) acquire(what string) (release func(), err error) {
	if !a.op.TryLock() {
		return nil, &Refusal{Reason{CodeBusy, a.busyWith()}, nil}
	}
	unlock := func() {}
	if !a.owner && a.st.dir != nil {
		if unlock, err = a.lockState(); err != nil {
			a.op.Unlock()
			return nil, err
		}
	}
	a.mem.Lock()
	a.doing, a.doingSince = what, a.o.Clock.Now()
	a.mem.Unlock()
	return func() {
		unlock()
		a.mem.Lock()
		a.doing = ""
		a.mem.Unlock()
		a.op.Unlock()
	}, nil
}

// busyWith says what the work under way is, and for how long.
func (a *Agent) busyWith() string {
	a.mem.Lock()
	defer a.mem.Unlock()
	if a.doing == "" { // it has just begun, or just ended
		return "another operation is under way"
	}
	return fmt.Sprintf("%s has been under way for %s", a.doing, a.o.Clock.Now().Sub(a.doingSince).Round(time.Second))
}

// Own takes the state directory for as long as the process lives, as a daemon does.
func (a *Agent) Own() error {
	if a.st.dir == nil {
		return nil
	}
	_, err := a.lockState()
	a.owner = err == nil
	return err
}

func (a *Agent) lockState() (func(), error) {
	unlock, err := a.st.dir.Lock()
	if errors.Is(err, durable.ErrLocked) {
		return nil, &Refusal{Reason{CodeBusy, "another agent has the state directory: " + err.Error()}, err}
	}
	if err != nil {
		return nil, &Refusal{Reason{CodeState, err.Error()}, err}
	}
	return unlock, nil
}

// advance takes steps until there is nothing to do, or nothing to do yet. It returns
// the last step, and the transaction as it then is.
func (a *Agent) advance(ctx context.Context) (Step, Transaction, error) {
	permit, asked := PermitYes, Phase("")
	for range 64 {
		if err := ctx.Err(); err != nil {
			return StepWait, Transaction{}, err
		}
		m, err := a.machine(ctx)
		if err != nil {
			return StepWait, Transaction{}, err
		}
		if !m.record.Slots[m.boot.Slot].Successful {
			if err := a.st.writable(); err != nil {
				return StepReboot, Transaction{}, a.leaveWithoutState(ctx, m, err)
			}
		}
		if err := a.prepare(ctx, m); err != nil {
			return StepWait, Transaction{}, err
		}
		t, err := a.journal(m)
		if err != nil {
			return StepWait, t, err
		}
		if err := a.settle(ctx, m, &t); err != nil {
			return StepWait, t, err
		}
		if t.Phase != asked {
			// Asked anew for staged: hosts look once more right before they arm.
			if permit, err = a.permit(ctx, m, &t); err != nil {
				return StepWait, t, err
			}
			asked = t.Phase
		}
		o := a.observe(m, &t)
		o.Permit = permit
		step := Next(t.Phase, o)
		if step == StepRest || step == StepWait {
			return step, t, nil
		}
		a.log.Info("step", "step", step, "phase", t.Phase, "txn", t.Seq, "slot", t.Slot)
		if err := a.do(ctx, step, m, &t); err != nil {
			return step, t, fmt.Errorf("%s: %w", step, err)
		}
		if step == StepReboot {
			return step, t, nil
		}
	}
	return StepWait, Transaction{}, fmt.Errorf("transaction does not come to rest")
}

// prepare makes sure of what was written before. Once in a process it repairs the state, and
// finds the format to write: the newest that the agents of both slots read.
func (a *Agent) prepare(ctx context.Context, m machine) error {
	if a.st.dir == nil {
		return nil
	}
	if err := a.settleStores(); err != nil || a.ready {
		return err
	}
	other, err := a.st.pointer(m.boot.Slot.Other())
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	*a.st.writes = min(a.st.reads, max(other.ReadsFormat, 1))
	if err := a.recoverState(ctx, m); err != nil {
		return err
	}
	a.ready = true
	return nil
}

// settle makes sure, once in a process, that journal and boot record are what they seem to
// be. A process before this one may have been killed between writing and flushing them; to go
// on from there would be to build on what a power cut takes back.
func (a *Agent) settle(ctx context.Context, m machine, t *Transaction) error {
	if a.settled || t.Phase == Idle || m.record.Check() != nil {
		return nil
	}
	if a.st.dir != nil {
		if err := a.st.rewrite(fileJournal); err != nil {
			return err
		}
	}
	if err := a.store(ctx, m.record); err != nil {
		return err
	}
	a.settled = true
	return nil
}

// do carries out one step.
func (a *Agent) do(ctx context.Context, s Step, m machine, t *Transaction) error {
	switch s {
	case StepClear:
		return a.clear(ctx, m, t)
	case StepStage:
		return a.stage(ctx, m, t)
	case StepMarkStaged:
		return a.markStaged(t)
	case StepVerify:
		return a.verifyStaged(ctx, m, t)
	case StepMarkArmed:
		return a.markArmed(ctx, m, t)
	case StepArm:
		return a.arm(ctx, m, t)
	case StepReboot:
		return a.reboot(ctx, t)
	case StepJudge:
		return a.judge(ctx, t)
	case StepCommit:
		return a.commit(ctx, m, t)
	case StepFinishCommit:
		return a.finishCommit(m, t)
	case StepMarkReverting:
		return a.markReverting(m, t)
	case StepRevert:
		return a.revert(ctx, m, t)
	case StepFinishRevert:
		return a.finishRevert(ctx, m, t)
	case StepFinishLost:
		return a.finishLost(t)
	case StepAbandon:
		return a.finish(t, HistoryEntry{Result: "abandoned", Text: "no longer wanted, or not possible any more"})
	}
	return fmt.Errorf("unknown step %q", s)
}

// save writes the journal.
func (a *Agent) save(t *Transaction) error { return a.st.save(fileJournal, t) }

// finish ends the transaction: first the history, then the journal.
func (a *Agent) finish(t *Transaction, e HistoryEntry) error {
	e.Seq, e.Time, e.Kind, e.Slot, e.Bytes = t.Seq, a.now(), string(t.Kind), t.Slot.String(), t.Bytes
	if len(e.Evidence) == 0 {
		e.Evidence = t.Evidence
	}
	if e.Result != "committed" {
		e.Kernel = t.Kernel
	}
	e.From, e.To = a.versionOf(t.From), a.versionOf(t.To)
	if err := a.st.record(e); err != nil {
		return err
	}
	done := Transaction{Seq: t.Seq, Phase: Idle}
	if err := a.save(&done); err != nil {
		return err
	}
	a.log.Info("transaction ended", "txn", t.Seq, "result", e.Result, "code", e.Code, "from", e.From, "to", e.To)
	a.verdict, a.judged, a.judging = VerdictPending, health.Verdict{}, nil
	if err := a.removeOldDeployments(&done); err != nil || a.o.Apps == nil {
		return err
	}
	return a.sweepApps()
}

// versionOf is for people: a deployment that cannot be read has no version.
func (a *Agent) versionOf(n uint64) release.Version {
	d, err := a.st.deployment(n)
	if err != nil || d == nil {
		return release.Version{}
	}
	return d.Version
}

func (a *Agent) now() time.Time { return a.o.Clock.Now().UTC().Truncate(time.Second) }

// progress tells whoever watches what is being done.
func (a *Agent) progress(e Event) {
	a.mem.Lock()
	a.event = &e
	emit := a.emit
	a.mem.Unlock()
	if emit != nil {
		emit(e)
	}
}
