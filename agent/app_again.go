package agent

import (
	"context"
	"time"
)

// What ought to run and could not be started is tried again so soon, and then after twice the
// time each, until the next poll: a runtime that was killed, or went away for a moment, must
// not keep an application down for as long as a host waits between two polls.
const soonAgain = 5 * time.Second

// rest is the daemon's nap between two polls. Meanwhile it starts what could not be started,
// and goes on with a transaction of applications that an error broke off.
func (a *Agent) rest(ctx context.Context, wait time.Duration) error {
	for again := soonAgain; ; {
		nap := wait
		if a.appsFail() {
			nap = min(wait, again)
		}
		woken, err := a.sleep(ctx, nap)
		if err != nil {
			return err
		}
		if woken {
			if a.nudged() {
				return nil
			}
			continue // an application could not be started since
		}
		if nap == wait {
			return nil
		}
		wait, again = wait-nap, 2*again
		wait = min(wait, a.cycle(ctx, false))
	}
}

// appsFail reports whether something of applications is to be tried again.
func (a *Agent) appsFail() bool {
	a.mem.Lock()
	defer a.mem.Unlock()
	return a.appBroken || len(a.appProblems) > 0
}

// noteBroken keeps in mind whether a transaction of applications was broken off by an error
// when something that runs may have been touched already. What only fetches waits for a poll.
func (a *Agent) noteBroken(ctx context.Context, t AppTransaction, err error) {
	a.mem.Lock()
	defer a.mem.Unlock()
	a.appBroken = err != nil && ctx.Err() == nil && t.Phase != AppStaging
	if a.appBroken && a.wake != nil {
		a.wake()
	}
}

// nudged reports whether the nap was ended for a poll.
func (a *Agent) nudged() bool {
	a.mem.Lock()
	defer a.mem.Unlock()
	was := a.poke
	a.poke = false
	return was
}
