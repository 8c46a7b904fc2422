package control

import (
	"github.com/twinkeel/twinkeel/agent"
)

// The exit codes of a host's commands.
const (
	ExitDone      = 0
	ExitFailed    = 1
	ExitUsage     = 2
	ExitNothing   = 3 // nothing to do
	ExitHeld      = 4 // not now, by policy
	ExitUntrusted = 5
	ExitBack      = 6 // the release was tried and left again
	ExitBusy      = 7
)

// ExitHelp is what every help text says of them.
const ExitHelp = `Exit status: 0 done, 1 error, 2 usage, 3 nothing to do, 4 held by policy,
5 not trusted, 6 rolled back, 7 busy.`

// exitCodes maps reason codes; those that are not here are plain errors.
var exitCodes = map[string]int{
	agent.CodeUsage:        ExitUsage,
	agent.CodeCurrent:      ExitNothing,
	agent.CodeHeld:         ExitHeld,
	agent.CodeWindow:       ExitHeld,
	agent.CodeRollout:      ExitHeld,
	agent.CodePaused:       ExitHeld,
	agent.CodeNotBefore:    ExitHeld,
	agent.CodeNoDirective:  ExitHeld,
	agent.CodeDenied:       ExitHeld,
	agent.CodeTrialLost:    ExitHeld,
	agent.CodeRetry:        ExitHeld,
	agent.CodeEpoch:        ExitHeld,
	agent.CodeUnhealthy:    ExitBack, // of an application; a trial of the OS ends in another boot
	agent.CodePermission:   ExitHeld,
	agent.CodeDataFormat:   ExitHeld,
	agent.CodeUntrusted:    ExitUntrusted,
	agent.CodeExpired:      ExitUntrusted,
	agent.CodeRootWithheld: ExitUntrusted,
	agent.CodeBusy:         ExitBusy,
}

// ExitOf returns the exit code for a reason code; "" and unknown ones are errors.
func ExitOf(code string) int {
	if n, ok := exitCodes[code]; ok {
		return n
	}
	return ExitFailed
}
