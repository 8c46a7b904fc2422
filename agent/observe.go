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
		t = Transaction{Phase: Idle}
	default:
		return t, err
	}
	if t.Phase != Idle {
		return t, nil
	}
	running, other := m.boot.Slot, m.boot.Slot.Other()
	if r := m.record.Slots[running]; r.Priority > 0 && !r.Successful {
		return a.rebuilt(t.Seq, running)
	}
	if r := m.record.Slots[other]; r.Priority > 0 && !r.Successful {
		return a.rebuilt(t.Seq, other)
	}
	return t, nil
}

// rebuilt is the armed transaction that the boot record tells of, with nothing known
// but the slot.
func (a *Agent) rebuilt(seq uint64, slot partitions.Slot) (Transaction, error) {
	p, err := a.st.pointer(slot)
	if err != nil && !errors.Is(err, errDamaged) && a.st.dir != nil {
		return Transaction{}, err
	}
	o, err := a.st.pointer(slot.Other())
	if err != nil && !errors.Is(err, errDamaged) && a.st.dir != nil {
		return Transaction{}, err
	}
	return Transaction{Seq: seq + 1, Phase: Armed, Kind: KindUpdate, Slot: slot, From: o.Current, To: p.Current, Arms: 1}, nil
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
	var d denialRecord
	if err := a.st.load(fileDenials, &d); errors.Is(err, errDamaged) || (absent(err) && !m.record.Denied.IsZero()) {
		d = denialRecord{}
		if !m.record.Denied.IsZero() {
			d.Denials = []Denial{{Deployment: m.record.Denied, Attempt: m.record.DeniedAttempt, Code: CodeDenied,
				Text: "kept in the boot record", Time: a.now()}}
		}
		a.log.Warn("denials rebuilt from the boot record", "err", err)
		if err := a.st.save(fileDenials, &d); err != nil {
			return err
		}
	}
	for _, slot := range partitions.Slots {
		if err := a.recoverPointer(ctx, m, slot); err != nil {
			return err
		}
	}
	return nil
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
		if err := a.st.mend(n); err != nil {
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

// recoverPointer repairs a damaged slot pointer by comparing the slot with every
// deployment that is on file.
func (a *Agent) recoverPointer(ctx context.Context, m machine, slot partitions.Slot) error {
	p, err := a.st.pointer(slot)
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
	a.log.Warn("slot pointer is damaged, comparing the slot with the known deployments", "slot", slot, "err", err)
	numbers, err := a.deploymentNumbers()
	if err != nil {
		return err
	}
	p = Pointer{}
	at, _ := a.appJournal() // a damaged one names no deployment
	for _, n := range slices.Backward(numbers) {
		if n == at.To && at.Phase != AppIdle {
			continue // what is being tried is not what stands
		}
		d, err := a.st.deployment(n)
		if err != nil || d == nil {
			continue
		}
		if reports, err := a.verifySlot(ctx, slot, d); err == nil && allOK(reports) {
			p = Pointer{Current: n, Committed: m.record.Slots[slot].Successful}
			break
		}
	}
	return a.st.save(pointerFile(slot), &p)
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

// removeOldDeployments deletes deployments that nothing points to any more.
func (a *Agent) removeOldDeployments(t *Transaction) error {
	keep := map[uint64]bool{t.From: true, t.To: true, t.Origin: true}
	at, err := a.appJournal()
	if err != nil {
		return err
	}
	keep[at.From], keep[at.To], keep[at.Before] = true, true, true
	for _, slot := range partitions.Slots {
		p, err := a.st.pointer(slot)
		if err != nil {
			return err
		}
		keep[p.Current], keep[p.Previous] = true, true
	}
	numbers, err := a.deploymentNumbers()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if keep[n] {
			continue
		}
		// The deployment goes last: as long as it is there, so is the number.
		if err := a.st.remove(manifestFile(n)); err != nil {
			return err
		}
		if err := a.st.remove(deploymentCopy(n)); err != nil {
			return err
		}
		if err := a.st.remove(deploymentFile(n)); err != nil {
			return err
		}
	}
	return nil
}

// epoch is the highest security epoch that either witness knows.
func (a *Agent) epoch(m machine) uint64 {
	var h hostRecord
	// An unreadable record lowers nothing: the boot record keeps its own copy.
	_ = a.st.load(fileHost, &h)
	return max(h.Epoch, m.record.Epoch)
}

func (a *Agent) deniedBy(m machine, deployment release.Digest, attempt uint64) (*Denial, error) {
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
