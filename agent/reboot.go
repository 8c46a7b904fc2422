package agent

import (
	"context"
	"fmt"
)

// reboot leaves this boot, unless the operator wants to do that. The request returns
// at once; what follows is the end of this process. Where the machine does not go down
// after all, the next cycle asks again.
func (a *Agent) reboot(ctx context.Context, t *Transaction) error {
	if t.NoReboot {
		a.progress(Event{Step: "reboot", Text: "ready; waiting for the operator's reboot"})
		return nil
	}
	a.progress(Event{Step: "reboot", Text: "rebooting"})
	a.log.Info("rebooting", "txn", t.Seq, "slot", t.Slot, "phase", t.Phase)
	if err := a.o.Reboot(ctx); err != nil {
		return fmt.Errorf("ask for a reboot: %w", err)
	}
	return nil
}
