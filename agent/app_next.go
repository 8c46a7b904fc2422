package agent

// AppObservation is what is so with applications: what Next's is for the machine.
type AppObservation struct {
	Permit  Permit
	Staged  bool // every image of the new set is sealed
	Quiet   bool // nothing of the apps that change runs or is tried that has to end first
	Cloned  bool // every generation of the new set is there
	Flipped bool // the pointer says the new set
	Running bool // what the pointer says of the apps that change runs
	Beside  bool // the new set is tried beside the old one before the pointer turns
	Tried   bool // all of the new set is tried, where no client reaches it
	Counted bool // the journal says that this boot is one of the trial's
	Verdict Verdict
}

// AppStep is the one thing to do next about applications. Each is idempotent.
type AppStep string

// The steps.
const (
	AppRest          AppStep = "rest"           // nothing to do
	AppWait          AppStep = "wait"           // nothing to do yet
	AppStage         AppStep = "stage"          // images: fetch, read back, seal
	AppMarkSwitching AppStep = "mark switching" // journal: switching
	AppStop          AppStep = "stop"           // end what runs and must not
	AppClone         AppStep = "clone"          // data: the new set's generations
	AppCount         AppStep = "count boot"     // journal: this boot is one of the trial's
	AppTry           AppStep = "try"            // start the new set beside the old one
	AppFlip          AppStep = "flip"           // pointer: the new set
	AppMarkTrial     AppStep = "mark trial"     // journal: trial
	AppSwitch        AppStep = "switch"         // lead clients to what was tried; end the old set
	AppStart         AppStep = "start"          // start what the pointer says
	AppJudge         AppStep = "judge"          // health, until the verdict
	AppCommit        AppStep = "commit"         // live data, history; journal: idle
	AppMarkReverting AppStep = "mark reverting" // journal: reverting, with the verdict
	AppFlipBack      AppStep = "flip back"      // pointer: the old set
	AppFinishRevert  AppStep = "finish revert"  // denial, history; journal: idle
	AppAbandon       AppStep = "abandon"        // journal: idle
)

// NextApp decides what to do about applications, from their journal and from what is so.
// It is pure and total: starting, resuming and recovering are this one call.
// docs/STATES.md is generated from it.
func NextApp(phase AppPhase, o AppObservation) AppStep {
	switch phase {
	case AppStaging:
		return nextAppStaging(o)
	case AppSwitching:
		return nextAppSwitching(o)
	case AppTrial:
		return nextAppTrial(o)
	case AppReverting:
		return nextAppReverting(o)
	}
	return AppRest
}

func nextAppStaging(o AppObservation) AppStep {
	switch {
	case o.Permit == PermitNo:
		return AppAbandon
	case o.Permit == PermitWait:
		return AppWait
	case !o.Staged:
		return AppStage
	}
	return AppMarkSwitching
}

func nextAppSwitching(o AppObservation) AppStep {
	switch {
	case o.Flipped:
		return AppMarkTrial
	case o.Verdict == VerdictUnhealthy:
		// What has to be done before the pointer turns could not be done.
		return AppMarkReverting
	case !o.Quiet:
		return AppStop
	case o.Beside && !o.Running:
		// Until the pointer turns, clients are the old set's.
		return AppStart
	case !o.Cloned:
		return AppClone
	case o.Beside && !o.Counted:
		// Before anything of the new set runs: it may take the machine down.
		return AppCount
	case o.Beside && !o.Tried:
		return AppTry
	case o.Beside && o.Verdict != VerdictHealthy:
		return AppJudge
	}
	return AppFlip
}

func nextAppTrial(o AppObservation) AppStep {
	switch {
	case !o.Flipped, o.Verdict == VerdictUnhealthy:
		return AppMarkReverting
	case !o.Counted:
		return AppCount
	case o.Tried:
		return AppSwitch
	case !o.Quiet:
		return AppStop
	case !o.Running:
		return AppStart
	case o.Verdict == VerdictHealthy:
		return AppCommit
	}
	return AppJudge
}

func nextAppReverting(o AppObservation) AppStep {
	switch {
	case o.Flipped:
		// The pointer first: a power cut from here on starts the old set.
		return AppFlipBack
	case !o.Quiet:
		return AppStop
	}
	// The old set is started like after any boot, once the journal is idle.
	return AppFinishRevert
}
