package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// machine is what the boot loader says: which boot this is, and its record.
type machine struct {
	boot   bootloader.Boot
	record bootloader.State
}

func (a *Agent) machine(ctx context.Context) (machine, error) {
	boot, err := a.o.Loader.Booted(ctx)
	if err != nil {
		return machine{}, &Refusal{Reason{CodeLoader, fmt.Sprintf("which slot runs: %v", err)}, err}
	}
	rec, err := a.o.Loader.Load(ctx)
	if err != nil {
		return machine{}, &Refusal{Reason{CodeLoader, fmt.Sprintf("read boot record: %v", err)}, err}
	}
	return machine{boot, rec}, nil
}

// onTrial reports whether the boot record calls what runs a trial.
func (m machine) onTrial() bool {
	r := m.record.Slots[m.boot.Slot]
	return r.Priority > 0 && !r.Successful
}

// observe joins the machine's view with the journal's.
func (a *Agent) observe(m machine, t *Transaction) Observation {
	r := m.record.Slots[t.Slot]
	next, ok := m.record.Next()
	first := ok && next == t.Slot
	o := Observation{
		OnTrial:    m.boot.Slot == t.Slot,
		SameBoot:   t.ArmedIn == m.boot.ID,
		Cleared:    r.Priority == 0,
		Raised:     first && !r.Successful,
		Successful: first && r.Successful,
		Verified:   t.VerifiedIn == m.boot.ID,
		Verdict:    a.verdict,
	}
	// The loader says itself that it took the slot and could not start it. A kexec proves
	// nothing, and neither do tries that are gone: power cuts use them up, and a loader
	// that could not save its counter does not dare to try.
	o.FellBack = m.boot.Firmware && m.boot.Fallback && !o.OnTrial && r.Priority > 0 && !r.Successful
	o.Panicked = t.Phase == Armed && !o.OnTrial && !o.SameBoot && !a.panicked(t).IsZero()
	return o
}

// journal returns the transaction that counts now. Where the journal is lost, or says
// idle although the boot record tells of a trial, it is rebuilt from the boot record.
func (a *Agent) journal(m machine) (Transaction, error) {
	t, err := a.st.journal()
	switch {
	case err == nil, absent(err):
	case errors.Is(err, errDamaged):
		a.log.Warn("journal is damaged, rebuilding it from the boot record", "err", err)
		t = a.rebuiltReverting(m)
		// Its number is lost with it. Names of generations must not come back.
		if t.Seq = uint64(a.now().Unix()); t.Phase == Reverting {
			return t, nil
		}
		if a.undecided(m) {
			return a.rebuilt(m, t.Seq, m.boot.Slot)
		}
	default:
		return t, err
	}
	running, other := m.boot.Slot, m.boot.Slot.Other()
	switch {
	case t.Phase == Armed || t.Phase == Reverting:
		return a.withVerdict(m, t), nil
	case m.onTrial():
		r, err := a.rebuilt(m, t.Seq, running)
		if t.Phase == Staged && t.Slot == running {
			// It was armed since, and the journal is again what it was before. What is tried, and
			// on which data, the pointer says.
			t.Phase, t.Arms, t.To = Armed, t.Arms+1, r.To
			return t, err
		}
		return r, err
	case t.Phase != Idle:
		return t, nil
	}
	if r := m.record.Slots[other]; r.Priority > 0 && !r.Successful {
		return a.rebuilt(m, t.Seq, other)
	}
	if p, err := a.st.pointer(running); err == nil && p.Current != 0 && !p.Committed && m.record.Slots[running].Successful {
		return a.rebuilt(m, t.Seq, running) // a commit that was not finished when its journal was lost
	}
	return t, nil
}

// withVerdict is t with the verdict of a trial that the boot record alone remembers. Where the
// directory could not be synced when it was written down, the journal is again what it was
// before, and the trial would look like a lost one. By force, and by hand, what is denied is
// armed all the same.
func (a *Agent) withVerdict(m machine, t Transaction) Transaction {
	if t.Phase != Armed || t.Force || t.Kind != KindUpdate || m.boot.Slot == t.Slot || m.boot.ID == t.ArmedIn || m.record.Denied.IsZero() {
		return t
	}
	to, err := a.st.deployment(t.To)
	if err == nil && to != nil && to.Digest == m.record.Denied && to.Attempt <= m.record.DeniedAttempt {
		t.Phase, t.Verdict = Reverting, &Reason{CodeDenied, keptInRecord}
	}
	return t
}

// keptInRecord stands for the reason of a denial of which the boot record keeps that it is.
const keptInRecord = "kept in the boot record"

// undecided reports whether the running slot cannot boot again and nothing says why: it is
// not denied. A trial, maybe of a slot that somebody went back to by hand, was being left
// without a state directory, and nobody asked for the reboot.
func (a *Agent) undecided(m machine) bool {
	running, other := m.boot.Slot, m.boot.Slot.Other()
	if m.record.Slots[running].Priority > 0 || !m.record.Slots[other].Successful {
		return false
	}
	p, err := a.st.pointer(running)
	if err != nil {
		return false
	}
	d, err := a.st.deployment(p.Current)
	if err != nil || d == nil {
		return false
	}
	denial, err := a.deniedBy(d.Digest, d.Attempt)
	return err == nil && denial == nil
}

// rebuilt is the armed transaction that the boot record tells of, with nothing known
// but the slot.
func (a *Agent) rebuilt(m machine, seq uint64, slot partitions.Slot) (Transaction, error) {
	p, err := a.st.pointer(slot)
	if err != nil && !errors.Is(err, errDamaged) && a.st.dir != nil {
		return Transaction{}, err
	}
	o, err := a.st.pointer(slot.Other())
	if err != nil && !errors.Is(err, errDamaged) && a.st.dir != nil {
		return Transaction{}, err
	}
	kind := KindUpdate
	if p.Committed && !m.record.Slots[slot].Successful {
		kind = KindRollback // what an update brings was not committed yet
	}
	return Transaction{Seq: seq + 1, Phase: Armed, Kind: kind, Slot: slot, From: o.Current, To: p.Current, Arms: 1}, nil
}

// rebuiltReverting is the transaction that was going back when its journal was lost: the
// running slot cannot boot any more, and what it holds is what the boot record denies. One
// that somebody started by hand is none of these; then the journal is idle.
func (a *Agent) rebuiltReverting(m machine) Transaction {
	slot := m.boot.Slot
	p, err := a.st.pointer(slot)
	if err != nil || m.record.Slots[slot].Priority > 0 || m.record.Denied.IsZero() {
		return Transaction{Phase: Idle}
	}
	d, err := a.st.deployment(p.Current)
	if err != nil || d == nil || d.Digest != m.record.Denied {
		return Transaction{Phase: Idle}
	}
	o, _ := a.st.pointer(slot.Other()) // for people: where it goes back to
	return Transaction{Phase: Reverting, Kind: KindUpdate, Slot: slot, From: o.Current, To: p.Current, Arms: 1,
		Verdict: &Reason{CodeDenied, keptInRecord}}
}

// recoverState brings back what the state directory lost: from the boot record, and
// from the slots themselves. It never lowers a floor.
func (a *Agent) recoverState(ctx context.Context, m machine) error {
	if a.st.dir == nil {
		return nil
	}
	if err := a.recoverHost(m); err != nil {
		return err
	}
	if err := a.recoverDenials(m); err != nil {
		return err
	}
	for _, slot := range partitions.Slots {
		if err := a.recoverPointer(ctx, m, slot); err != nil {
			return err
		}
	}
	return nil
}

// recoverDenials brings back what is denied. The boot record mirrors the denial of what was
// left last; it is all that tells of it where the denials are lost, and where the journal
// is, which was to be brought in line with it.
func (a *Agent) recoverDenials(m machine) error {
	if err := a.st.mend(fileDenials, &denialRecord{}); err != nil {
		return err
	}
	mirrored := Denial{Deployment: m.record.Denied, Attempt: m.record.DeniedAttempt, Code: CodeDenied,
		Text: keptInRecord, Time: a.now()}
	var d denialRecord
	err := a.st.loadTwice(fileDenials, &d)
	if errors.Is(err, errDamaged) || (absent(err) && !mirrored.Deployment.IsZero()) {
		a.log.Warn("denials rebuilt from the boot record", "err", err)
		d = denialRecord{}
		if !mirrored.Deployment.IsZero() {
			d.Denials = []Denial{mirrored}
		}
		return a.st.saveTwice(fileDenials, &d)
	}
	if _, jerr := a.st.journal(); !errors.Is(jerr, errDamaged) || mirrored.Deployment.IsZero() {
		return nil
	}
	if err != nil {
		return err // what cannot be read now may lack it
	}
	if known, err := a.deniedBy(mirrored.Deployment, mirrored.Attempt); err != nil || known != nil {
		return err
	}
	return a.st.deny(mirrored)
}

func (a *Agent) recoverHost(m machine) error {
	var h hostRecord
	err := a.st.load(fileHost, &h)
	if err != nil && !absent(err) && !errors.Is(err, errDamaged) {
		return err
	}
	before := h
	h.Epoch = max(h.Epoch, m.record.Epoch)
	numbers, lerr := a.deploymentNumbers()
	if lerr != nil {
		return lerr
	}
	for _, n := range numbers {
		if err := a.st.mend(deploymentFile(n), &Deployment{}); err != nil {
			return err
		}
		h.Deployments = max(h.Deployments, n)
	}
	if m.boot.Firmware && m.record.Slots[m.boot.Slot].Successful {
		h.Unproven = false
	}
	if err == nil && h == before {
		return nil
	}
	if absent(err) && h == (hostRecord{}) {
		return nil
	}
	return a.st.save(fileHost, &h)
}

// recoverPointer repairs a damaged slot pointer, or one that names what is lost, by
// comparing the slot with every deployment that is on file.
func (a *Agent) recoverPointer(ctx context.Context, m machine, slot partitions.Slot) error {
	p, err := a.st.pointer(slot)
	if err == nil {
		err = a.described(m, slot, p)
	}
	if err == nil {
		if slot == m.boot.Slot && p.Current != 0 && p.ReadsFormat != a.st.reads {
			p.ReadsFormat = a.st.reads
			return a.st.save(pointerFile(slot), &p)
		}
		return nil
	}
	if !errors.Is(err, errDamaged) {
		return err
	}
	a.log.Warn("slot pointer is damaged or names what is lost, comparing the slot with the known deployments", "slot", slot, "err", err)
	tried := uint64(0)
	if at, _ := a.appJournal(); at.Phase != AppIdle { // a damaged one names no deployment
		tried = at.To
	}
	n, err := a.holds(ctx, slot, tried)
	if err != nil {
		return err
	}
	p = Pointer{}
	if n != 0 {
		p = Pointer{Current: n, Committed: m.record.Slots[slot].Successful}
	}
	return a.st.save(pointerFile(slot), &p)
}

// described reports, as errDamaged, that both copies of the deployment which the running slot
// was committed with are lost: the host would wait for them for ever.
func (a *Agent) described(m machine, slot partitions.Slot, p Pointer) error {
	if slot != m.boot.Slot || !m.record.Slots[slot].Successful {
		return nil
	}
	if t, err := a.st.journal(); err != nil && !absent(err) || t.Phase != Idle {
		return nil
	}
	if _, err := a.st.deployment(p.Current); absent(err) || errors.Is(err, errDamaged) {
		return fmt.Errorf("deployment %d: %w: %w", p.Current, errDamaged, err)
	}
	return nil
}

// holds returns the deployment on file that a slot holds, bit for bit, or 0: of several the
// one that the journal has on trial there, then the one whose applications' data is the newest
// committed, then one whose data is there, then the newest. One that was written and never came
// to be is none of the first two. One that is being tried is not what stands, and is left out.
func (a *Agent) holds(ctx context.Context, slot partitions.Slot, tried uint64) (uint64, error) {
	numbers, err := a.deploymentNumbers()
	if err != nil {
		return 0, err
	}
	var known []*Deployment
	for _, n := range slices.Backward(slices.Sorted(slices.Values(numbers))) {
		if d, err := a.st.deployment(n); err == nil && d != nil && n != tried {
			known = append(known, d)
		}
	}
	meant := uint64(0) // by the journal, which a trial of this slot was armed from
	switch t, err := a.st.journal(); {
	case err != nil && !absent(err) && !errors.Is(err, errDamaged):
		return 0, err // it may be readable the next time
	case t.Phase == Armed && t.Slot == slot:
		meant = t.To
	}
	rank := func(d *Deployment) int {
		if d.Number == meant {
			return -1
		}
		return a.dataRank(d)
	}
	slices.SortStableFunc(known, func(x, y *Deployment) int { return rank(x) - rank(y) })
	for unread, again := true, 0; unread && again < 2; again++ { // a read error may have passed
		unread = false
		for _, d := range known {
			reports, err := a.verifySlot(ctx, slot, d)
			if err == nil && allOK(reports) {
				// One of the same release that comes before it failed only because of a read error
				// that has passed.
				first := slices.IndexFunc(known, func(o *Deployment) bool { return o.Digest == d.Digest })
				return known[first].Number, nil
			}
			unread = unread || slices.ContainsFunc(reports, func(r VerifyReport) bool { return r.unread })
		}
	}
	return 0, nil
}

func (a *Agent) deploymentNumbers() ([]uint64, error) {
	names, err := a.st.dir.List()
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, n := range names {
		digits, is := strings.CutPrefix(n, "deployment-")
		if !is {
			continue
		}
		digits, _ = strings.CutSuffix(digits, ".json")
		if k, err := strconv.ParseUint(digits, 10, 64); err == nil && deploymentFile(k) == n {
			numbers = append(numbers, k)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// epoch is the highest security epoch that either witness knows.
func (a *Agent) epoch(m machine) uint64 {
	var h hostRecord
	// An unreadable record lowers nothing: the boot record keeps its own copy.
	_ = a.st.load(fileHost, &h)
	return max(h.Epoch, m.record.Epoch)
}

func (a *Agent) deniedBy(deployment release.Digest, attempt uint64) (*Denial, error) {
	list, err := a.st.denials()
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Deployment == deployment && attempt <= list[i].Attempt {
			return &list[i], nil
		}
	}
	return nil, nil
}
