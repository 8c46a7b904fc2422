package agent

// Permit says whether a release that is being staged may still go on.
type Permit uint8

// The permits.
const (
	PermitYes  Permit = iota
	PermitWait        // not now: window, hold, retry time
	PermitNo          // not at all: withdrawn, superseded, denied
)

// Verdict is what the health judge says of a trial.
type Verdict uint8

// The verdicts.
const (
	VerdictPending Verdict = iota
	VerdictHealthy
	VerdictUnhealthy
)

// Observation is what is so: the second witness beside the journal.
type Observation struct {
	OnTrial    bool // the transaction's slot is the one that runs
	SameBoot   bool // the trial was armed in this boot
	Cleared    bool // boot record: the slot has priority 0
	Raised     bool // boot record: the slot boots next, on trial
	Successful bool // boot record: the slot is successful and boots next
	FellBack   bool // the loader started the slot, failed, and took the other in the same boot
	Panicked   bool // the slot's kernel panicked in this trial, and that was kept
	Verified   bool // the slot was read back in this boot
	Permit     Permit
	Verdict    Verdict
}

// Step is the one thing to do next. Each is idempotent and ends in at most one durable
// write.
type Step string

// The steps.
const (
	StepRest          Step = "rest"           // nothing to do
	StepWait          Step = "wait"           // nothing to do yet: window, hold, retry time
	StepClear         Step = "clear"          // boot record: the slot cannot boot
	StepStage         Step = "stage"          // slot: write it, read it back, describe it
	StepMarkStaged    Step = "mark staged"    // journal: staged
	StepVerify        Step = "verify"         // slot: read it back once more, in this boot
	StepMarkArmed     Step = "mark armed"     // journal: armed in this boot
	StepArm           Step = "arm"            // boot record: the slot boots next, on trial
	StepReboot        Step = "reboot"         // leave this boot
	StepJudge         Step = "judge"          // run the health probes
	StepCommit        Step = "commit"         // boot record: the slot is successful
	StepFinishCommit  Step = "finish commit"  // journal: idle
	StepMarkReverting Step = "mark reverting" // journal: reverting, with the verdict
	StepRevert        Step = "revert"         // boot record: the slot cannot boot, the other stands
	StepFinishRevert  Step = "finish revert"  // denial; journal: idle
	StepFinishLost    Step = "finish lost"    // journal: staged again for later, or idle after the last
	StepAbandon       Step = "abandon"        // journal: idle
)

// Next decides what to do, from the journal and from what is so. It is pure and total:
// starting, resuming and recovering are this one call. docs/STATES.md is generated from
// it.
func Next(phase Phase, o Observation) Step {
	switch phase {
	case Staging:
		return nextStaging(o)
	case Staged:
		return nextStaged(o)
	case Armed:
		if o.OnTrial {
			return nextOnTrial(o)
		}
		return nextArmed(o)
	case Reverting:
		return nextReverting(o)
	}
	return StepRest
}

func nextStaging(o Observation) Step {
	switch {
	case o.OnTrial:
		// The slot that was to be written runs: somebody chose it by hand. What runs is
		// never written.
		return StepAbandon
	case o.Permit == PermitNo:
		// Before the first clear nothing was written, and after it the slot cannot boot:
		// either way it may stay as it is.
		return StepAbandon
	case o.Permit == PermitWait:
		return StepWait
	case !o.Cleared:
		return StepClear
	case !o.Verified:
		return StepStage
	}
	return StepMarkStaged
}

func nextStaged(o Observation) Step {
	switch {
	case o.OnTrial, o.Permit == PermitNo:
		return StepAbandon
	case o.Permit == PermitWait:
		return StepWait
	case !o.Verified:
		return StepVerify
	}
	return StepMarkArmed
}

// nextOnTrial decides while the new slot runs.
func nextOnTrial(o Observation) Step {
	switch {
	case o.Successful:
		return StepFinishCommit
	case o.Verdict == VerdictHealthy:
		return StepCommit
	case o.Verdict == VerdictUnhealthy:
		return StepMarkReverting
	}
	return StepJudge
}

// nextArmed decides while the old slot runs.
func nextArmed(o Observation) Step {
	switch {
	case o.SameBoot && !o.Raised:
		return StepArm
	case o.SameBoot:
		return StepReboot
	case o.FellBack, o.Panicked:
		// Read before the record is cleared: the tries in it are evidence.
		return StepMarkReverting
	case !o.Cleared:
		return StepClear
	}
	return StepFinishLost
}

func nextReverting(o Observation) Step {
	switch {
	case !o.Cleared:
		return StepRevert
	case o.OnTrial:
		return StepReboot
	}
	return StepFinishRevert
}
