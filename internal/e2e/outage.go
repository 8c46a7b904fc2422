package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// outage is how long nothing served because of a bad release, by the clock of whoever watches
// the console: from the start of the bad release's init, before its service can have begun.
type outage struct {
	fault   string
	verdict time.Duration // until it was decided to leave it
	back    time.Duration // until the old slot's service took requests
}

// marks on the console, of which the first that a line holds counts.
const (
	markTrial   = "VM up slot=b"
	markOld     = "VM up slot=a"
	markServes  = "VM serves healthy=true"
	markAgent   = `step="mark reverting"`
	markDeadman = "no commit within"
)

// stopwatch takes the times of an outage from the console. It is told of all lines.
type stopwatch struct {
	mu                 sync.Mutex
	began, judged, end time.Time
	old                bool // the old slot is up again
}

// reset makes it wait for the next trial.
func (s *stopwatch) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began, s.judged, s.end, s.old = time.Time{}, time.Time{}, time.Time{}, false
}

// see takes one line.
func (s *stopwatch) see(line string) { s.seeAt(line, time.Now()) }

func (s *stopwatch) seeAt(line string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	is := func(mark string) bool { return strings.Contains(line, mark) }
	switch {
	case s.began.IsZero() && is(markTrial):
		s.began = now
	case s.began.IsZero():
	case s.judged.IsZero() && (is(markAgent) || is(markDeadman)):
		s.judged = now
	case is(markOld):
		s.old = true
	case s.old && s.end.IsZero() && is(markServes):
		s.end = now
	}
}

// outage returns what was measured. It fails where the console does not tell of all of it.
func (s *stopwatch) outage(fault string) (outage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began.IsZero() || s.judged.IsZero() || s.end.IsZero() {
		return outage{}, fmt.Errorf("%s: trial begun %t, left %t, served again %t", fault, !s.began.IsZero(), !s.judged.IsZero(), !s.end.IsZero())
	}
	return outage{fault, s.judged.Sub(s.began), s.end.Sub(s.began)}, nil
}

// timed does a fault's way back, and measures it.
func (h *host) timed(fault string, back func() error) error {
	h.watch.reset()
	h.faults++
	if err := back(); err != nil {
		return err
	}
	o, err := h.watch.outage(fault)
	if err != nil {
		return err
	}
	h.outages = append(h.outages, o)
	return nil
}

// reportOutages says how long it took until the old slots served again.
func reportOutages(out io.Writer, faults int, list []outage) {
	if faults == 0 {
		return
	}
	fmt.Fprintf(out, "      served again by themselves: %d of %d\n", len(list), faults)
	for _, o := range list {
		fmt.Fprintf(out, "      %-34s from its init to the verdict %6.1f s, to the old slot's service %6.1f s\n", o.fault, o.verdict.Seconds(), o.back.Seconds())
	}
}
