package control

import (
	"testing"

	"github.com/twinkeel/twinkeel/agent"
)

func TestExitCodesFollowTheReason(t *testing.T) {
	for code, want := range map[string]int{
		"":                    ExitFailed,
		"no-such-code":        ExitFailed,
		agent.CodeUsage:       ExitUsage,
		agent.CodeCurrent:     ExitNothing,
		agent.CodeWindow:      ExitHeld,
		agent.CodeDenied:      ExitHeld,
		agent.CodeExpired:     ExitUntrusted,
		agent.CodeBusy:        ExitBusy,
		agent.CodeNoRoom:      ExitFailed,
		agent.CodeUnavailable: ExitFailed,
	} {
		if got := ExitOf(code); got != want {
			t.Errorf("%q: got %d, want %d", code, got, want)
		}
	}
}
