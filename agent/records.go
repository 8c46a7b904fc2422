package agent

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

const (
	maxHistory = 100
	maxKernel  = 10 // of the newest entries keep the kernel's log
	maxDenials = 100
)

// hostRecord is what the host remembers beside slots and transactions.
type hostRecord struct {
	Epoch uint64 `json:"epoch"` // the highest security epoch ever committed
	// Unproven is set when the running slot was committed without a firmware boot; the
	// other slot then stays as it is until one succeeded.
	Unproven bool `json:"unproven,omitempty"`
	// Deployments is the highest number given to a deployment so far.
	Deployments uint64 `json:"deployments"`
}

type denialRecord struct {
	Denials []Denial `json:"denials"`
}

type historyRecord struct {
	Entries []HistoryEntry `json:"entries"`
}

func pointerFile(s partitions.Slot) string { return "slot-" + s.String() + ".json" }

func deploymentFile(n uint64) string { return "deployment-" + strconv.FormatUint(n, 10) + ".json" }

// copyOf names the second copy of a record that is kept twice.
func copyOf(name string) string { return strings.TrimSuffix(name, ".json") + ".copy.json" }

// firstOf is the name whose copyOf this one is, or this one itself.
func firstOf(name string) string {
	if first, is := strings.CutSuffix(name, ".copy.json"); is {
		return first + ".json"
	}
	return name
}

// loadOr reads a record, or leaves v as it is where there is none. A damaged record is
// an error: state is never guessed from defaults.
func (s *store) loadOr(name string, v any) error {
	if err := s.load(name, v); err != nil && !absent(err) {
		return err
	}
	return nil
}

// journal returns the transaction of the journal. One that says no phase is idle, and so
// is none.
func (s *store) journal() (Transaction, error) {
	var t Transaction
	err := s.load(fileJournal, &t)
	if t.Phase == "" {
		t.Phase = Idle
	}
	return t, err
}

func (s *store) pointer(slot partitions.Slot) (Pointer, error) {
	var p Pointer
	err := s.loadOr(pointerFile(slot), &p)
	return p, err
}

// deployment returns a deployment by number; number 0 is none. It is kept twice: without
// it the version that runs, which nothing older may replace, would be forgotten.
func (s *store) deployment(n uint64) (*Deployment, error) {
	if n == 0 {
		return nil, nil
	}
	var d Deployment
	if err := s.loadTwice(deploymentFile(n), &d); err != nil {
		return nil, err
	}
	if d.Number != n {
		return nil, fmt.Errorf("read state %s: %w: number: got %d, want %d", deploymentFile(n), errDamaged, d.Number, n)
	}
	return &d, nil
}

// loadTwice reads a record that is kept twice from whichever copy is whole. One that is
// damaged says so only if the other one is no better.
func (s *store) loadTwice(name string, v any) error {
	err := s.load(name, v)
	if err == nil {
		return nil
	}
	reflect.ValueOf(v).Elem().SetZero()
	err2 := s.load(copyOf(name), v)
	switch {
	case err2 == nil:
		return nil
	case absent(err):
		return err2 // there was one, or there is none of either
	}
	reflect.ValueOf(v).Elem().SetZero()
	return err
}

// saveTwice durably replaces both copies of a record, one after the other.
func (s *store) saveTwice(name string, v any) error {
	if err := s.save(name, v); err != nil {
		return err
	}
	return s.save(copyOf(name), v)
}

// mend makes the two copies of a record alike again, so that the second one may be damaged
// some day, too; v is an empty one. Where neither is whole there is nothing to do it from.
func (s *store) mend(name string, v any) error {
	first, err := s.dir.Read(name)
	second, err2 := s.dir.Read(copyOf(name))
	if err == nil && err2 == nil && bytes.Equal(first, second) || absent(err) && absent(err2) {
		return nil
	}
	if s.loadTwice(name, v) != nil {
		return nil
	}
	return s.saveTwice(name, v)
}

// newDeployment writes d under the next number. A number that was given out and not
// used, because the power failed in between, is written again.
func (s *store) newDeployment(d Deployment) (uint64, error) {
	var h hostRecord
	if err := s.loadOr(fileHost, &h); err != nil {
		return 0, err
	}
	h.Deployments++
	d.Number = h.Deployments
	if err := s.saveTwice(deploymentFile(d.Number), &d); err != nil {
		return 0, err
	}
	return d.Number, s.save(fileHost, &h)
}

// deny keeps a deployment from being installed again by itself. A second denial of the
// same deployment raises the attempt and keeps the first reason's place.
func (s *store) deny(d Denial) error {
	r, err := s.denialRecord()
	if err != nil {
		return err
	}
	r.Denials = slices.DeleteFunc(r.Denials, func(o Denial) bool {
		if o.Deployment == d.Deployment {
			d.Attempt = max(d.Attempt, o.Attempt)
			return true
		}
		return false
	})
	r.Denials = append(r.Denials, d)
	if n := len(r.Denials); n > maxDenials {
		r.Denials = r.Denials[n-maxDenials:]
	}
	return s.saveTwice(fileDenials, &r)
}

func (s *store) undeny(digest release.Digest) (bool, error) {
	r, err := s.denialRecord()
	if err != nil {
		return false, err
	}
	n := len(r.Denials)
	r.Denials = slices.DeleteFunc(r.Denials, func(o Denial) bool { return o.Deployment == digest })
	if len(r.Denials) == n {
		return false, nil
	}
	return true, s.saveTwice(fileDenials, &r)
}

func (s *store) denials() ([]Denial, error) {
	r, err := s.denialRecord()
	return r.Denials, err
}

// denialRecord reads what is denied. It is kept twice: without it a release that proved bad
// would come back when it is offered again; the boot record mirrors the last denial only.
func (s *store) denialRecord() (r denialRecord, err error) {
	if err = s.loadTwice(fileDenials, &r); absent(err) {
		err = nil
	}
	return r, err
}

// hold returns the hold in force, or nil.
func (s *store) hold(now time.Time) (*Hold, error) {
	var h Hold
	if err := s.load(fileHold, &h); err != nil {
		if absent(err) {
			return nil, nil
		}
		return nil, err
	}
	if !h.Until.IsZero() && !now.Before(h.Until) {
		return nil, nil
	}
	return &h, nil
}

// record appends to the history. The history explains; nothing is decided from it, so
// a damaged one is begun anew.
func (s *store) record(e HistoryEntry) error {
	var r historyRecord
	if err := s.load(fileHistory, &r); err != nil {
		r = historyRecord{}
	}
	if n := len(r.Entries); n > 0 && e.Seq != 0 && r.Entries[n-1].Seq == e.Seq && r.Entries[n-1].Kind == e.Kind && r.Entries[n-1].App == e.App {
		// The same end of the same transaction, written again after a crash.
		r.Entries[n-1] = e
		return s.save(fileHistory, &r)
	}
	r.Entries = append(r.Entries, e)
	if n := len(r.Entries); n > maxHistory {
		r.Entries = r.Entries[n-maxHistory:]
	}
	if n := len(r.Entries); n > maxKernel {
		r.Entries[n-maxKernel-1].Kernel = nil
	}
	return s.save(fileHistory, &r)
}

func (s *store) history() ([]HistoryEntry, error) {
	var r historyRecord
	err := s.loadOr(fileHistory, &r)
	return r.Entries, err
}

func manifestFile(n uint64) string { return fmt.Sprintf("manifest-%d.json", n) }

// saveManifest keeps the signed manifest of a deployment that is being staged, so that
// an interrupted download goes on without asking anybody.
func (s *store) saveManifest(n uint64, raw []byte) error {
	if s.dir == nil {
		return s.missing()
	}
	return s.replace(manifestFile(n), raw)
}

// manifest returns the manifest of deployment n, checked against the digest that was
// noted when its signature had been verified.
func (s *store) manifest(n uint64) (*release.Manifest, error) {
	d, err := s.deployment(n)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, fmt.Errorf("read state: deployment %d is not known", n)
	}
	raw, err := s.dir.Read(manifestFile(n))
	if err != nil {
		return nil, err
	}
	if got := release.DigestOf(raw); got != d.Manifest {
		return nil, fmt.Errorf("read state %s: %w: sha256: got %s, want %s", manifestFile(n), errDamaged, got.Short(), d.Manifest.Short())
	}
	return s.known.manifest(raw)
}
