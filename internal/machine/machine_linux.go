package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// System is what runs in a slot beside the agent.
type System interface {
	// Start brings up what the slot, "a" or "b", holds; stop takes it down again.
	Start(ctx context.Context, slot string) (stop func() error, err error)
}

// Machine is a computer with a power switch. Its fields are set before Run.
type Machine struct {
	Dir    string                                // for its own small files; exists
	Loader func(context.Context) (string, error) // the firmware: picks a slot and counts the trial
	System System                                // nil: nothing but the agent
	Agent  []string                              // command of the agent
	Log    *os.File                              // output of the agent
	Booted func(Boot)                            // called at each boot, before the agent runs; may be nil

	requests chan request
	meter    meter
}

// Boot is one start of a Machine.
type Boot struct {
	Number int // from 1
	Slot   string
	Cut    bool  // the boot before ended by a power cut
	Panic  error // why the slot did not come up; the agent does not run then
}

// request is something that happens to a running machine from outside; done is closed
// once it has.
type request struct {
	what event
	done chan struct{}
}

type event int

const (
	cut       event = iota // the power is gone
	stopAgent              // the agent is stopped; the machine stays up
)

// RebootCommand is what the agent's configuration names as its reboot command.
func (m *Machine) RebootCommand() []string {
	return []string{"sh", "-c", `echo reboot >"$0"`, m.wire()}
}

// wire is the FIFO between the reboot command and the power switch.
func (m *Machine) wire() string { return filepath.Join(m.Dir, "power") }

// Prepare makes what RebootCommand needs. It is called once, before Run.
func (m *Machine) Prepare() error {
	m.requests = make(chan request)
	if err := os.Remove(m.wire()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("power switch: %w", err)
	}
	if err := syscall.Mkfifo(m.wire(), 0o600); err != nil {
		return fmt.Errorf("power switch: %w", err)
	}
	return nil
}

// Run powers the machine on and lets it run, through all its reboots, until ctx ends.
// An agent that ends unasked is an error.
func (m *Machine) Run(ctx context.Context) error {
	for b, panics := (Boot{}), 0; ctx.Err() == nil; {
		b.Number++
		if err := m.boot(ctx, &b); err != nil {
			return fmt.Errorf("boot %d: %w", b.Number, err)
		}
		if b.Panic == nil {
			panics = 0
		} else if panics++; panics > maxPanics {
			return fmt.Errorf("boot %d: nothing boots: %w", b.Number, b.Panic)
		}
	}
	return nil
}

// maxPanics is more than the trial boots of any slot.
const maxPanics = 16

// PowerCut takes the power away: every process dies at once. The machine then starts
// again, as one does when the power is back.
func (m *Machine) PowerCut(ctx context.Context) { m.send(ctx, cut) }

// StopAgent stops the agent and returns when it is gone; the machine stays up until
// the next reboot.
func (m *Machine) StopAgent(ctx context.Context) { m.send(ctx, stopAgent) }

func (m *Machine) send(ctx context.Context, what event) {
	r := request{what, make(chan struct{})}
	select {
	case m.requests <- r:
		<-r.done
	case <-ctx.Done():
	}
}

// boot is one life of the machine, from power-on to reboot or cut. A slot that does not
// come up is what a kernel's panic is: the machine starts again.
func (m *Machine) boot(ctx context.Context, b *Boot) (err error) {
	if b.Slot, err = m.Loader(ctx); err != nil {
		return fmt.Errorf("boot loader: %w", err)
	}
	b.Panic = nil
	if m.System != nil {
		var stop func() error
		if stop, b.Panic = m.System.Start(ctx, b.Slot); b.Panic == nil {
			defer func() { err = errors.Join(err, stop()) }()
		}
	}
	if m.Booted != nil {
		m.Booted(*b)
	}
	b.Cut = false
	if b.Panic != nil {
		return nil
	}
	asked, disconnect, err := m.connect()
	if err != nil {
		return err
	}
	defer disconnect()
	agent, err := Start(m.Agent, m.Log)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer agent.kill()
	b.Cut, err = m.live(ctx, agent, asked)
	return err
}

// connect listens to the reboot command for one boot: a machine that goes down does not
// hear it again.
func (m *Machine) connect() (asked chan struct{}, disconnect func(), err error) {
	// Opened for writing too, so that it does not end with each writer.
	wire, err := os.OpenFile(m.wire(), os.O_RDWR, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("power switch: %w", err)
	}
	asked = make(chan struct{}, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		for lines := bufio.NewScanner(wire); lines.Scan(); {
			select {
			case asked <- struct{}{}:
			default: // asked already
			}
		}
	})
	return asked, func() {
		wire.Close()
		reader.Wait()
	}, nil
}

// live waits for what ends a boot.
func (m *Machine) live(ctx context.Context, agent *Process, asked <-chan struct{}) (wasCut bool, err error) {
	sample := time.NewTicker(100 * time.Millisecond)
	defer sample.Stop()
	defer m.meter.settle()
	unasked := agent.ended
	for {
		select {
		case <-sample.C:
			m.meter.sample(agent.pid())
		case <-unasked:
			return false, fmt.Errorf("agent ended unasked: %s", agent.cmd.ProcessState)
		case <-asked:
			m.meter.sample(agent.pid())
			agent.Terminate()
			return false, nil
		case r := <-m.requests:
			m.meter.sample(agent.pid())
			if r.what == cut {
				agent.kill()
			} else {
				agent.Terminate()
				unasked = nil
			}
			close(r.done)
			if r.what == cut {
				return true, nil
			}
		case <-ctx.Done():
			agent.Terminate()
			return false, nil
		}
	}
}
