package agent

import (
	"errors"
)

// appJournal returns the transaction of applications that counts now. While the journal is
// damaged there is none; see rebuiltApps.
func (a *Agent) appJournal() (AppTransaction, error) {
	t, err := a.readAppJournal()
	if errors.Is(err, errDamaged) {
		return AppTransaction{Phase: AppIdle, Seq: uint64(a.now().Unix())}, nil
	}
	return t, err
}

func (a *Agent) readAppJournal() (AppTransaction, error) {
	if a.o.Apps == nil {
		return AppTransaction{Phase: AppIdle}, nil
	}
	var t AppTransaction
	err := a.loadApps(fileJournal, &t)
	if t.Phase == "" {
		t.Phase = AppIdle
	}
	return t, err
}

// appTransaction is appJournal for what builds on it: a damaged journal is rebuilt first.
func (a *Agent) appTransaction(m machine) (AppTransaction, error) {
	t, err := a.readAppJournal()
	if errors.Is(err, errDamaged) {
		return a.rebuiltApps(m)
	}
	return t, err
}

// rebuiltApps is the transaction that a damaged journal leaves. The pointer is whole and says
// what runs. If that began from the newest data and was not committed, it was on trial, and
// goes back to what ran before: nobody knows how often it has failed. It is tried again after
// the next poll.
func (a *Agent) rebuiltApps(m machine) (AppTransaction, error) {
	// Its number is lost with it. Names of generations must not come back.
	t := AppTransaction{Phase: AppIdle, Seq: uint64(a.now().Unix())}
	p, err := a.st.pointer(m.boot.Slot)
	if err != nil {
		return t, err
	}
	d, err := a.st.deployment(p.Current)
	if err != nil {
		return t, err
	}
	live, err := a.live(m)
	if err != nil {
		return t, err
	}
	var os Transaction
	if err := a.st.loadOr(fileJournal, &os); err != nil && !errors.Is(err, errDamaged) {
		return t, err
	}
	// What runs for a trial of the OS is that one's, until its commit is finished.
	osTrial := !m.record.Slots[m.boot.Slot].Successful || os.Phase == Armed && os.Slot == m.boot.Slot
	if d != nil && p.Previous != 0 && !osTrial {
		for _, w := range d.Workloads {
			if newest := live[w.Name].Generation; w.Generation != newest && w.Base == newest {
				t.Apps = append(t.Apps, w.Name)
			}
		}
	}
	if len(t.Apps) > 0 {
		t.Phase, t.Kind, t.Slot, t.From, t.To = AppReverting, appUpdate, m.boot.Slot, p.Previous, p.Current
		t.Verdict = &Reason{CodeTrialLost, "the journal of its trial was damaged"}
	}
	a.log.Warn("journal of applications is damaged; the slot's pointer counts", "phase", t.Phase, "apps", t.Apps)
	if err := a.saveAppJournal(&t); err != nil {
		a.log.Error("journal of applications cannot be written, either; what the pointer says runs", "err", err)
		return AppTransaction{Phase: AppIdle, Seq: t.Seq}, nil
	}
	return t, nil
}

func (a *Agent) saveAppJournal(t *AppTransaction) error { return a.saveApps(fileJournal, t) }
