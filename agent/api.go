package agent

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// Verb is what an operator asks of the agent.
type Verb string

// The verbs of the operator's command and of the control socket.
const (
	VerbStatus     Verb = "status"
	VerbCheck      Verb = "check"
	VerbUpdate     Verb = "update"
	VerbRollback   Verb = "rollback"
	VerbHistory    Verb = "history"
	VerbWhy        Verb = "why"
	VerbVerify     Verb = "verify"
	VerbDoctor     Verb = "doctor"
	VerbHold       Verb = "hold"
	VerbUnhold     Verb = "unhold"
	VerbUndeny     Verb = "undeny"
	VerbTrustReset Verb = "trust-reset"
	VerbInit       Verb = "init"
	VerbApps       Verb = "apps" // questions about applications
	VerbApp        Verb = "app"  // changes of one application
)

// Request is one call of an operator. Fields that a verb does not use are ignored.
type Request struct {
	Verb     Verb            `json:"verb"`
	Version  release.Version `json:"version"`          // update: this release, not the newest
	Now      bool            `json:"now,omitempty"`    // update: do not wait for window or rollout
	Force    bool            `json:"force,omitempty"`  // update: despite hold or denial; rollback: below the epoch
	Reason   string          `json:"reason,omitempty"` // rollback, hold
	Data     string          `json:"data,omitempty"`   // rollback: keep or restore application data
	NoReboot bool            `json:"noReboot,omitempty"`
	Until    time.Time       `json:"until"`             // hold; zero: until unhold
	Digest   release.Digest  `json:"digest"`            // undeny
	Slot     string          `json:"slot,omitempty"`    // verify: a, b or both
	Factory  []byte          `json:"factory,omitempty"` // init: manifest of the factory slot
	Bundle   *os.File        `json:"-"`                 // update: offline bundle, passed as a file descriptor
	App      *AppRequest     `json:"app,omitempty"`     // apps, app
}

// Event is one line of progress.
type Event struct {
	Step  string `json:"step"` // refresh, plan, stage, verify, arm, reboot, health, commit, revert
	Text  string `json:"text"`
	Done  int64  `json:"done,omitempty"` // bytes
	Total int64  `json:"total,omitempty"`
}

// Operator carries out requests: the agent itself, or a client of its control socket.
type Operator interface {
	// Do answers one request; emit, if not nil, gets progress while it works.
	Do(ctx context.Context, r Request, emit func(Event)) (Result, error)
}

// Result is the answer to a request: the field that belongs to its verb is set.
type Result struct {
	Status  *Status        `json:"status,omitempty"`
	Outcome *Outcome       `json:"outcome,omitempty"` // check, update, rollback, hold, unhold, undeny, trust reset, init
	History []HistoryEntry `json:"history,omitempty"`
	Why     *Why           `json:"why,omitempty"`
	Verify  []VerifyReport `json:"verify,omitempty"`
	Doctor  []Finding      `json:"doctor,omitempty"`
	Apps    *AppAnswer     `json:"apps,omitempty"`
}

// Reason says why something is not done now or not done at all. Codes are stable words.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// The reason codes. They never change their meaning.
const (
	CodeHeld         = "held"          // an operator holds updates
	CodeWindow       = "window"        // outside the update windows
	CodeRollout      = "rollout"       // this host's bucket is not within the rollout yet
	CodePaused       = "paused"        // the directive halts the rollout
	CodeNotBefore    = "not-before"    // the directive starts later
	CodeNoDirective  = "no-directive"  // no valid directive, and rollout is not "all"
	CodeDenied       = "denied"        // this deployment failed here or was left by hand
	CodeTrialLost    = "trial-lost"    // trials were lost without a verdict; held after three
	CodeRetry        = "retry"         // a lost trial waits for its next try
	CodeExpired      = "expired"       // metadata expired
	CodeUntrusted    = "untrusted"     // metadata or payload failed verification
	CodeRootWithheld = "root-withheld" // the chain of roots ends below the known one
	CodeUnavailable  = "unavailable"   // server or bundle cannot be read
	CodeIncompatible = "incompatible"  // made for another machine, or for a newer updater
	CodeDowngrade    = "downgrade"     // older than what runs
	CodeEpoch        = "epoch"         // below the security epoch
	CodeNoRoom       = "no-room"       // slot or state directory is too small
	CodeCurrent      = "current"       // nothing newer
	CodeBusy         = "busy"          // another operation is under way
	CodeReboot       = "reboot"        // staged; waits for a reboot
	CodeState        = "state"         // state directory missing, read-only or unreadable
	CodeLoader       = "loader"        // the boot record cannot be read or written
	CodeClockBehind  = "clock-behind"  // the clock is before the newest time known
	CodeUnhealthy    = "unhealthy"     // a required probe failed until the deadline
	CodeUnbootable   = "unbootable"    // the loader could not start the slot
	CodePanic        = "panic"         // the slot's kernel panicked in its trial
	CodeByHand       = "by-hand"       // an operator left it
	CodeSlot         = "slot"          // a slot's content is not what it should be
	CodeNoFallback   = "no-fallback"   // there is no other slot to go back to
	CodeUnproven     = "unproven"      // committed without a firmware boot
	CodeUsage        = "usage"         // the request makes no sense
	CodePermission   = "permission"    // an app asks for what nobody granted, or what this host denies
	CodeDataFormat   = "data-format"   // an app does not read the data that a newer one wrote
)

// Refusal is an error with a reason code: what was asked is not done, by decision.
type Refusal struct {
	Reason
	Err error // the cause, or nil
}

// Error returns text and code.
func (r *Refusal) Error() string { return r.Text + " [" + r.Code + "]" }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// CodeOf returns the reason code of err, or "".
func CodeOf(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// reasonOf is err as a Reason: what its Error says, without the code behind that, as whoever
// prints a Reason adds it.
func reasonOf(err error) Reason {
	code := CodeOf(err)
	if code == "" {
		return Reason{"error", err.Error()}
	}
	return Reason{code, strings.TrimSuffix(err.Error(), " ["+code+"]")}
}

// Status is what `twinkeel status --json` prints.
type Status struct {
	Format    int            `json:"format"`
	Phase     Phase          `json:"phase"`
	Running   string         `json:"running"` // slot
	Next      string         `json:"next"`    // slot that boots next
	Slots     []SlotStatus   `json:"slots"`
	Reasons   []Reason       `json:"reasons"`
	LastCheck *time.Time     `json:"lastCheck"`
	Channel   string         `json:"channel"`
	Offer     *Offer         `json:"offer,omitempty"` // what the last check found
	Denied    []Denial       `json:"denied,omitempty"`
	Epoch     uint64         `json:"epoch"`
	Hold      *Hold          `json:"hold,omitempty"`
	Progress  *Event         `json:"progress,omitempty"`
	Expires   *time.Time     `json:"expires,omitempty"`  // when the trust metadata expires
	Warnings  []string       `json:"warnings,omitempty"` // nothing is refused for them yet
	Txn       *TxnStatus     `json:"transaction,omitempty"`
	Rollback  RollbackStatus `json:"rollback"`
}

// SlotStatus is one slot in a Status.
type SlotStatus struct {
	Name       string           `json:"name"`
	Version    *release.Version `json:"version"`
	Root       *release.Digest  `json:"root"`
	Priority   uint8            `json:"priority"`
	Tries      uint8            `json:"tries"`
	Successful bool             `json:"successful"`
	Running    bool             `json:"running"`
	Deployment uint64           `json:"deployment,omitempty"`
}

// Offer is a release that the channel offers to this host.
type Offer struct {
	Version       release.Version `json:"version"`
	Deployment    release.Digest  `json:"deployment"`
	DownloadBytes int64           `json:"downloadBytes"`
	Route         string          `json:"route"` // copy, delta, blocks or full: of several images the dearest kind
}

// TxnStatus is the transaction under way in a Status.
type TxnStatus struct {
	Kind    string          `json:"kind"` // update or rollback
	Slot    partitions.Slot `json:"slot"`
	Version release.Version `json:"version"`
	Arms    int             `json:"arms,omitempty"`
}

// RollbackStatus says beforehand whether `twinkeel rollback` would work.
type RollbackStatus struct {
	Possible bool             `json:"possible"`
	Version  *release.Version `json:"version"`
	Reason   *Reason          `json:"reason,omitempty"`
}

// Outcome is what a request that changes something did.
type Outcome struct {
	Text    string   `json:"text"`
	Reboot  bool     `json:"reboot,omitempty"` // a reboot was asked for, or is needed
	Offer   *Offer   `json:"offer,omitempty"`
	Reasons []Reason `json:"reasons,omitempty"` // why nothing was done
}

// HistoryEntry is one finished transaction, or one change made by an operator.
type HistoryEntry struct {
	Seq      uint64          `json:"seq"`
	Time     time.Time       `json:"time"`
	Kind     string          `json:"kind"`   // update, rollback, init, hold, …
	Result   string          `json:"result"` // committed, rolled-back, trial-lost, abandoned, done
	Slot     string          `json:"slot,omitempty"`
	App      string          `json:"app,omitempty"` // From and To are its versions
	From     release.Version `json:"from"`
	To       release.Version `json:"to"`
	Code     string          `json:"code,omitempty"`
	Text     string          `json:"text,omitempty"`
	Bytes    int64           `json:"bytes,omitempty"` // moved over the network
	Evidence []string        `json:"evidence,omitempty"`
	// Kernel is the end of the kernel's log of a trial that was left; its first line says
	// where that comes from. Kept for the newest entries.
	Kernel []string `json:"kernel,omitempty"`
}

// Why explains what the host would do next and what keeps it from it.
type Why struct {
	Text    string   `json:"text"`
	Offer   *Offer   `json:"offer,omitempty"`
	Reasons []Reason `json:"reasons"`
	Routes  []Route  `json:"routes,omitempty"`
	// Left is how the newest trial ended, if it was left.
	Left *HistoryEntry `json:"left,omitempty"`
}

// Route is one way to bring an image to a slot, with its price.
type Route struct {
	Image    string `json:"image"`
	Kind     string `json:"kind"` // copy (of what runs), delta, blocks (that it lacks), full
	Download int64  `json:"download"`
	Chosen   bool   `json:"chosen"`
	Text     string `json:"text,omitempty"`
}

// VerifyReport is the result of reading one image of a slot back.
type VerifyReport struct {
	Slot  string         `json:"slot"`
	Image string         `json:"image"`
	OK    bool           `json:"ok"`
	Want  release.Digest `json:"want"`
	Got   release.Digest `json:"got"`
	Text  string         `json:"text,omitempty"`

	unread bool // it could not be opened or read
}

// Finding is one line of `twinkeel doctor`.
type Finding struct {
	Level string `json:"level"` // ok, note, warning, error
	Topic string `json:"topic"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

// Denial keeps a deployment from being installed again by itself.
type Denial struct {
	Deployment release.Digest  `json:"deployment"`    // or of an application
	App        string          `json:"app,omitempty"` // its name
	Attempt    uint64          `json:"attempt"`       // denied up to and including this one
	Version    release.Version `json:"version"`
	Code       string          `json:"code"` // unhealthy, panic, by-hand, …
	Text       string          `json:"text"`
	Time       time.Time       `json:"time"`
}

// Hold keeps the host from installing anything by itself.
type Hold struct {
	Until  time.Time `json:"until"` // zero: until unhold
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}
