package apps

import (
	"regexp"
	"slices"
	"sync"
)

// trap reads the agent's log, in which a step stands before it is taken.
type trap struct {
	mu    sync.Mutex
	log   []byte // since it was set
	steps []string
	step  string
	nth   int
	seen  chan struct{}
}

var stepTaken = regexp.MustCompile(`msg="app step" step=(?:"([^"]*)"|(\S+))`)

// set begins anew, and waits for the nth time of a step: the channel is closed then.
func (p *trap) set(step string, nth int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log, p.steps, p.step, p.nth, p.seen = nil, nil, step, nth, make(chan struct{})
	return p.seen
}

// Write implements io.Writer.
func (p *trap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, b...)
	for _, m := range stepTaken.FindAllSubmatch(b, -1) {
		step := string(m[1]) + string(m[2])
		p.steps = append(p.steps, step)
		if step != p.step {
			continue
		}
		if p.nth--; p.nth == 0 {
			close(p.seen)
		}
	}
	return len(b), nil
}

func (p *trap) list() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.steps)
}

func (p *trap) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.log)
}
