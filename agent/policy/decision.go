package policy

import (
	"fmt"
	"time"

	"github.com/twinkeel/twinkeel/release"
)

// The reason codes of this package. They are the values of agent's constants with the
// same names; they stand here so that policy needs no agent.
const (
	CodeHeld        = "held"
	CodeWindow      = "window"
	CodeRollout     = "rollout"
	CodePaused      = "paused"
	CodeNotBefore   = "not-before"
	CodeNoDirective = "no-directive"
)

// Decision is an answer: the zero value means go ahead.
type Decision struct {
	Code  string    // "" or one of the codes above
	Text  string    // for the operator
	Until time.Time // when to ask again; zero if only an event, not time, changes it
}

// OK reports whether d means go ahead.
func (d Decision) OK() bool { return d.Code == "" }

// Hold decides by an operator's hold. A zero until holds until it is taken back; set
// tells a hold of that kind from none.
func Hold(set bool, until, now time.Time, reason string) Decision {
	if !set || !until.IsZero() && !now.Before(until) {
		return Decision{}
	}
	text := "updates are held until they are released by hand"
	if !until.IsZero() {
		text = "updates are held until " + until.UTC().Format(time.RFC3339)
	}
	if reason != "" {
		text += ": " + reason
	}
	return Decision{CodeHeld, text, until}
}

// InWindow decides by the update windows.
func InWindow(ws Windows, now time.Time, loc *time.Location) Decision {
	next := ws.Next(now, loc)
	if !next.After(now) {
		return Decision{}
	}
	return Decision{CodeWindow, "the next update window opens at " + next.In(loc).Format("Mon 2006-01-02 15:04 MST"), next}
}

// The ways of Rollout.
const (
	RolloutDirective = "directive" // install when the fleet's directive includes this host
	RolloutAll       = "all"       // no share to wait for, and no directive needed
)

// Rollout decides by the fleet's directive; d is nil if there is no valid one. A host
// with mode RolloutAll waits for no share and needs no directive, but where there is
// one it still obeys "paused" and "notBefore": those stop a bad release everywhere.
func Rollout(mode string, d *release.Directive, hostID string, now time.Time) Decision {
	switch {
	case d == nil && mode == RolloutAll:
		return Decision{}
	case d == nil:
		return Decision{Code: CodeNoDirective, Text: "the fleet has no valid directive, and rollout is not \"all\""}
	case d.Paused:
		return Decision{Code: CodePaused, Text: fmt.Sprintf("the rollout of %s is paused", d.Version)}
	case now.Before(d.NotBefore):
		return Decision{CodeNotBefore, fmt.Sprintf("the rollout of %s begins at %s", d.Version, d.NotBefore.UTC().Format(time.RFC3339)), d.NotBefore}
	case mode != RolloutAll && !d.Includes(hostID):
		return Decision{Code: CodeRollout, Text: fmt.Sprintf("the rollout of %s has reached %d.%d %% of the hosts; this one follows at more than %d.%d %%",
			d.Version, d.Permille/10, d.Permille%10, release.Bucket(d.Salt, hostID)/10, release.Bucket(d.Salt, hostID)%10)}
	}
	return Decision{}
}
