package agent

import (
	"time"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// Phase is where a transaction stands.
type Phase string

// The phases, in their order: idle → staging → staged → armed → idle, and on the way
// back armed → reverting → idle.
const (
	Idle      Phase = "idle"      // nothing under way
	Staging   Phase = "staging"   // the idle slot is being written
	Staged    Phase = "staged"    // the slot is written and was read back
	Armed     Phase = "armed"     // the slot has its trial
	Reverting Phase = "reverting" // the trial is over, and the slot is to be left
)

// Kind says how a transaction began.
type Kind string

// The kinds. A rollback is an update that begins at staged: its bits are there already.
const (
	KindUpdate   Kind = "update"
	KindRollback Kind = "rollback"
)

// Transaction is the journal: what the agent means to do. There is one per host.
type Transaction struct {
	Seq   uint64          `json:"seq"` // counts transactions; 0: none ever
	Phase Phase           `json:"phase"`
	Kind  Kind            `json:"kind,omitempty"`
	Slot  partitions.Slot `json:"slot"` // that is written and tried
	From  uint64          `json:"from,omitempty"`
	To    uint64          `json:"to,omitempty"` // deployment numbers; 0: unknown
	// VerifiedIn is the boot in which the slot was read back.
	VerifiedIn string `json:"verifiedIn,omitempty"`
	// ArmedIn is the boot in which the trial was armed: running the old slot in that
	// same boot means "reboot", in any other it means "the trial is over".
	ArmedIn string    `json:"armedIn,omitempty"`
	ArmedAt time.Time `json:"armedAt,omitzero"`
	Arms    int       `json:"arms,omitempty"` // trials armed so far
	// OldPanic is the newest panic of the slot with this release that was known when the
	// trial was armed: it says nothing about the trial, whatever the clocks say.
	OldPanic time.Time `json:"oldPanic,omitzero"`
	RetryAt  time.Time `json:"retryAt,omitzero"`  // a lost trial is not armed again before
	Verdict  *Reason   `json:"verdict,omitempty"` // why it reverts
	// Baseline names the probes that failed before the trial: they cannot condemn it.
	Baseline []string `json:"baseline,omitempty"`
	// Now and Force are what the operator asked for: not to wait for window and
	// rollout, and to do it despite hold and denial.
	Now      bool   `json:"now,omitempty"`
	Force    bool   `json:"force,omitempty"`
	Offline  bool   `json:"offline,omitempty"`  // from a bundle: no server to ask again
	NoReboot bool   `json:"noReboot,omitempty"` // the operator reboots
	Reason   string `json:"reason,omitempty"`   // the operator's, for a rollback
	Data     string `json:"data,omitempty"`     // of apps, in a rollback: keep or restore
	// Origin is the deployment that the slot held before a rollback was armed, if the
	// arm gave it another one, with generations of its own.
	Origin   uint64    `json:"origin,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Bytes    int64     `json:"bytes,omitempty"` // moved over the network so far
	Evidence []string  `json:"evidence,omitempty"`
	Kernel   []string  `json:"kernel,omitempty"` // the end of its log, of the last trial that was left
}

// Deployment is what a slot runs, whole. It is an immutable, numbered file.
type Deployment struct {
	Number  uint64          `json:"number"`
	Digest  release.Digest  `json:"digest"` // denials are by this digest
	Channel string          `json:"channel"`
	Version release.Version `json:"version"`
	Epoch   uint64          `json:"epoch"`
	Attempt uint64          `json:"attempt"`
	Images  []DeployedImage `json:"images"`
	Apps    []release.App   `json:"apps,omitempty"` // that the release names
	// Workloads are the applications that run, on which generations of their data.
	Workloads []DeployedApp  `json:"workloads,omitempty"`
	Manifest  release.Digest `json:"manifest"` // SHA-256 of the manifest
	Created   time.Time      `json:"created"`
}

// DeployedImage is one image of a deployment.
type DeployedImage struct {
	Name string         `json:"name"`
	Size int64          `json:"size"`
	Root release.Digest `json:"root"`
	Salt release.Salt   `json:"salt"`
}

// Image returns the deployment's image called name.
func (d *Deployment) Image(name string) (DeployedImage, bool) {
	for _, i := range d.Images {
		if i.Name == name {
			return i, true
		}
	}
	return DeployedImage{}, false
}

// Pointer says which deployment a slot holds.
type Pointer struct {
	Current  uint64 `json:"current"` // 0: none that could be booted
	Previous uint64 `json:"previous"`
	// Committed is set once Current was committed, or adopted: only such a deployment
	// is something to go back to.
	Committed bool `json:"committed"`
	// ReadsFormat is the newest state format that the agent inside the slot reads;
	// 0: not known, taken as the oldest.
	ReadsFormat int `json:"readsFormat"`
}
