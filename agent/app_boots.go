package agent

import "fmt"

// AppBoots counts the boots of a trial of applications, as tries do for one of the OS: each
// is written down before anything of the new set is started in it. A version that takes the
// machine down is so left after as many boots as an OS is.
type AppBoots struct {
	// Seq is the transaction whose boots these are. An agent that does not know this field
	// keeps it as it was, whatever it begins.
	Seq   uint64 `json:"seq"`
	Count int    `json:"count"`
	Last  string `json:"last"` // boot id
}

// counted reports whether this boot is one of those of the trial.
func (t *AppTransaction) counted(m machine) bool {
	return t.Boots.Seq == t.Seq && t.Boots.Last == m.boot.ID
}

// spent reports whether all boots of the trial passed without a verdict.
func (a *Agent) spent(m machine, t *AppTransaction) bool {
	trial := t.Phase == AppTrial || t.Phase == AppSwitching
	return trial && !t.counted(m) && t.Boots.Seq == t.Seq && t.Boots.Count >= int(a.o.Tries)
}

// countBoot makes this boot one of those of the trial.
func (a *Agent) countBoot(m machine, t *AppTransaction) error {
	if t.Boots.Seq != t.Seq {
		t.Boots = AppBoots{Seq: t.Seq}
	}
	t.Boots.Count, t.Boots.Last = t.Boots.Count+1, m.boot.ID
	return a.saveAppJournal(t)
}

// markTrial writes down that the new set is tried, and that it is in this boot.
func (a *Agent) markTrial(m machine, t *AppTransaction) error {
	t.Phase = AppTrial
	if t.counted(m) || a.spent(m, t) {
		return a.saveAppJournal(t)
	}
	return a.countBoot(m, t)
}

// spentReason is why a set is left of which nothing else is known.
func spentReason(t *AppTransaction) *Reason {
	return &Reason{CodeTrialLost, fmt.Sprintf("%d boots ended in its trial without a verdict; held until a newer version, a higher attempt or undeny", t.Boots.Count)}
}

// bootsEvidence is what a kernel of the running slot saved in its panic since the
// transaction began, if one did.
func (a *Agent) bootsEvidence(t *AppTransaction) []string {
	if a.o.KernelLog == nil || t.Started.IsZero() {
		return nil
	}
	from, err := a.st.deployment(t.From)
	if err != nil || from == nil {
		return nil
	}
	root, has := from.Image("root")
	if !has {
		return nil
	}
	words, panicked := a.o.KernelLog(t.Slot, root.Root, t.Started)
	if panicked.IsZero() {
		return nil // it is of another time
	}
	return words
}
