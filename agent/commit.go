package agent

import (
	"context"
	"fmt"
	"strings"
)

// commit makes the slot on trial the standing one. From here on it is what a fallback
// falls back to.
func (a *Agent) commit(ctx context.Context, m machine, t *Transaction) error {
	// A journal that was rebuilt from the boot record is kept first: once that says successful
	// it tells of no trial, and nothing would bring the state directory in line.
	if kept, err := a.st.journal(); err != nil || kept.Phase != Armed {
		if err := a.save(t); err != nil {
			return err
		}
	}
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	if !m.boot.Firmware {
		// Neither firmware nor loader has started this slot yet: the other one stays as
		// it is until they did. Said before the record, so that it is never left out.
		if err := a.setUnproven(); err != nil {
			return err
		}
	}
	s := m.record.Commit(t.Slot)
	if to != nil {
		s.Epoch = max(s.Epoch, to.Epoch)
		if s.Denied == to.Digest {
			s.Denied, s.DeniedAttempt = [32]byte{}, 0
		}
	}
	if t.Kind == KindRollback {
		if from, err := a.st.deployment(t.From); err == nil && from != nil {
			s.Denied, s.DeniedAttempt = from.Digest, from.Attempt
		}
	}
	a.progress(Event{Step: "commit", Text: fmt.Sprintf("slot %s is healthy: %s", t.Slot, strings.Join(a.judged.Reasons, "; "))})
	return a.store(ctx, s)
}

// finishCommit brings the state directory in line with the commit. The newest data comes before
// the pointer: until that says committed, a journal that is lost is rebuilt to this point.
func (a *Agent) finishCommit(m machine, t *Transaction) error {
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	if err := a.commitLive(m, to); err != nil {
		return err
	}
	p, err := a.st.pointer(t.Slot)
	if err != nil {
		return err
	}
	if t.To != 0 && (p.Current != t.To || !p.Committed || p.ReadsFormat != a.st.reads) {
		p = Pointer{Current: t.To, Previous: p.Previous, Committed: true, ReadsFormat: a.st.reads}
		if err := a.st.save(pointerFile(t.Slot), &p); err != nil {
			return err
		}
	}
	if err := a.raiseEpoch(m.record.Epoch); err != nil {
		return err
	}
	if to != nil {
		// It was denied once and was installed by force: now it has proven itself.
		if _, err := a.st.undeny(to.Digest); err != nil {
			return err
		}
	}
	e := HistoryEntry{Result: "committed", Text: strings.Join(a.judged.Reasons, "; ")}
	if t.Kind == KindRollback {
		if err := a.denyLeft(t); err != nil {
			return err
		}
		e.Code, e.Text = CodeByHand, reasonText(t)
	}
	return a.finish(t, e)
}

// denyLeft keeps the deployment that an operator left from coming back by itself.
func (a *Agent) denyLeft(t *Transaction) error {
	from, err := a.st.deployment(t.From)
	if err != nil || from == nil {
		return err
	}
	return a.st.deny(Denial{
		Deployment: from.Digest, Attempt: from.Attempt, Version: from.Version,
		Code: CodeByHand, Text: reasonText(t), Time: a.now(),
	})
}

func reasonText(t *Transaction) string {
	if t.Reason == "" {
		return "left by hand"
	}
	return "left by hand: " + t.Reason
}

func (a *Agent) raiseEpoch(epoch uint64) error {
	var h hostRecord
	if err := a.st.loadOr(fileHost, &h); err != nil || h.Epoch >= epoch {
		return err
	}
	h.Epoch = epoch
	return a.st.save(fileHost, &h)
}

func (a *Agent) setUnproven() error {
	var h hostRecord
	if err := a.st.loadOr(fileHost, &h); err != nil || h.Unproven {
		return err
	}
	h.Unproven = true
	return a.st.save(fileHost, &h)
}
