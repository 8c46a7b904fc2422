package agent

import (
	"errors"
	"slices"

	"github.com/twinkeel/twinkeel/partitions"
)

// dropStrays removes the deployments that earlier transactions left behind because the power
// failed before their journal was written. If it fails for ever at that moment, they must not
// grow without end.
func (a *Agent) dropStrays() error {
	t, err := a.st.journal()
	if err != nil && !absent(err) && !errors.Is(err, errDamaged) {
		return err
	}
	strays, err := a.strayDeployments(&t)
	if err != nil || len(strays) == 0 {
		return err
	}
	// What the pointers say has to last before what they do not name goes: this syncs it.
	if err := a.st.writable(); err != nil {
		return err
	}
	return a.removeOldDeployments(&t)
}

// strayDeployments are those that nothing points to.
func (a *Agent) strayDeployments(t *Transaction) ([]uint64, error) {
	keep := map[uint64]bool{t.From: true, t.To: true, t.Origin: true}
	at, err := a.appJournal()
	if err != nil {
		return nil, err
	}
	keep[at.From], keep[at.To], keep[at.Before] = true, true, true
	for _, slot := range partitions.Slots {
		p, err := a.st.pointer(slot)
		if err != nil {
			return nil, err
		}
		keep[p.Current], keep[p.Previous] = true, true
	}
	numbers, err := a.deploymentNumbers()
	return slices.DeleteFunc(numbers, func(n uint64) bool { return keep[n] }), err
}

// removeOldDeployments deletes deployments that nothing points to any more.
func (a *Agent) removeOldDeployments(t *Transaction) error {
	strays, err := a.strayDeployments(t)
	if err != nil {
		return err
	}
	for _, n := range strays {
		// The deployment goes last: as long as it is there, so is the number.
		if err := a.st.remove(manifestFile(n)); err != nil {
			return err
		}
		if err := a.st.remove(copyOf(deploymentFile(n))); err != nil {
			return err
		}
		if err := a.st.remove(deploymentFile(n)); err != nil {
			return err
		}
	}
	return nil
}
