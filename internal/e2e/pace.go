package main

import (
	"math/rand/v2"
	"sync"
	"time"
)

// pace is how long phases last on this machine at most, as far as cuts that came too late for
// them have shown. A phase is looked for in less time after each of them, so that cuts land in
// it on a machine of any speed. The zero pace knows nothing.
type pace struct {
	mu      sync.Mutex
	longest map[landing]time.Duration
}

// delay draws how long after its begin a phase is cut, with the loader that has a title.
func (c *pace) delay(loader string, p phase, random *rand.Rand) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(random.Int64N(int64(c.spread(loader, p))))
}

// missed is told of a cut that landed behind the phase. One that only this process was late
// for says little: it takes seven eighths of the time at most.
func (c *pace) missed(loader string, p phase, delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.longest == nil {
		c.longest = map[landing]time.Duration{}
	}
	c.longest[landing{loader, p.name}] = max(delay, c.spread(loader, p)/8, 1)
}

func (c *pace) spread(loader string, p phase) time.Duration {
	if s, ok := c.longest[landing{loader, p.name}]; ok {
		return s
	}
	return p.spread
}
