package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/vm"
)

// landmarks say, by the last of them on the console, in which phase a cut landed.
var landmarks = []struct{ text, phase string }{
	{"VM adopts", "adoption"}, {"VM adopted", "before the update"},
	{"step=stage", "stage"}, {"step=verify", "read-back"}, {"reading root back", "read-back"}, {"reading boot back", "read-back"},
	{`step="mark armed"`, "arm"}, {"VM up slot=b", "trial"}, {"VM up slot=a release=1.0 trial=1", "trial"}, {"step=commit", "commit"}, {`step="mark reverting"`, "revert"},
}

// cut cuts the power once.
func (e *engine) cut(h *host, w way, p phase, random *rand.Rand) error {
	before := filepath.Join(h.dir, "before.img")
	if err := vm.Clone(h.c.Disk, before); err != nil {
		return err
	}
	h.c.WriteLog = filepath.Join(h.dir, "writes")
	delay := e.pace.delay(h.l.title, p, random)
	there, err := e.until(h, w, p)
	if err != nil {
		return err
	}
	if there {
		select {
		case <-time.After(delay):
		case <-h.ctx.Done():
		}
	}
	h.off()
	landed, err := landedIn(h.c.Log)
	if err != nil {
		return err
	}
	landed = w.prefix + landed
	lost, err := h.lose(before, random)
	if err != nil {
		return err
	}
	h.c.WriteLog = ""
	if !there {
		h.note("%s was over", p.name)
		return nil
	}
	if landed != p.name {
		e.pace.missed(h.l.title, p, delay)
	}
	h.note("%s: landed in %s, %d ms after its begin; %d unflushed writes lost, torn or kept", p.name, landed, delay.Milliseconds(), lost)
	h.landed = append(h.landed, landing{h.l.title, landed})
	return nil
}

// until lets the machine come as far as a phase's begin, with a new update where the old
// one does not go on by itself. It says no if the machine is past it.
func (e *engine) until(h *host, w way, p phase) (bool, error) {
	for range 6 {
		u, err := e.known(h)
		if err != nil {
			return false, err
		}
		past := ""
		switch {
		case p.name == adoption.name:
			past = "msg=started"
		case u["slot"] == w.from:
			there, err := h.urge(w, p)
			if !errors.Is(err, vm.ErrEnded) {
				return there, err
			}
			continue
		case u["trial"] != "1":
			return false, nil
		case p == trial || p == backTrial:
			return true, nil
		default:
			past = "result=committed"
		}
		line, err := h.see(p.begin, past)
		if !errors.Is(err, vm.ErrEnded) {
			return err == nil && strings.HasPrefix(line, p.begin), err
		}
	}
	return false, fmt.Errorf("%s does not begin", p.name)
}

// urge asks the agent of the slot that is to be left for what it is left for until the phase
// begins. It says no if that was tried, and has its verdict.
func (h *host) urge(w way, p phase) (bool, error) {
	const refused = "[" + agent.CodeDenied + "]"
	words := []string{p.begin, "msg=started"}
	for range 100 {
		line, err := h.seeFor(20*time.Second, words...)
		if err == nil && (strings.HasPrefix(line, p.begin) || strings.HasPrefix(line, refused)) {
			return strings.HasPrefix(line, p.begin), nil
		}
		if strings.HasPrefix(line, "VM ran ") {
			// Perhaps it is busy with what it goes on with by itself. If not, it is asked again.
			words = []string{p.begin}
			continue
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return false, err
		}
		if err != nil && words[len(words)-1] == "msg=started" {
			continue
		}
		if h.m.Say(w.order) != nil {
			_, err := h.see("no such line")
			return false, err
		}
		words = []string{p.begin, refused, "VM ran "}
	}
	return false, fmt.Errorf("%q is not seen", p.begin)
}

// landedIn says, by the console, how far the machine was.
func landedIn(log string) (string, error) {
	b, err := os.ReadFile(log)
	if err != nil {
		return "", err
	}
	last, where := -1, "before the update"
	for _, l := range landmarks {
		if i := strings.LastIndex(string(b), l.text); i > last {
			last, where = i, l.phase
		}
	}
	if where == "read-back" && strings.LastIndex(string(b), "VM adopts") > strings.LastIndex(string(b), "VM adopted") {
		where = "adoption" // reads the slot, too
	}
	return where, nil
}

// lose makes the disk what was durable on it and a random part of what was not: writes
// behind the last flush are lost, kept or torn.
func (h *host) lose(before string, random *rand.Rand) (unflushed int, err error) {
	effects, err := vm.ReadLog(h.c.WriteLog)
	if err != nil {
		return 0, err
	}
	if err := vm.Clone(before, h.c.Disk); err != nil {
		return 0, err
	}
	disk, err := os.OpenFile(h.c.Disk, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer disk.Close()
	safe := 0
	for i, e := range effects {
		if e.Flush {
			safe = i + 1
		}
	}
	if err := vm.Cut(disk, effects[:safe], nil); err != nil {
		return 0, err
	}
	if err := vm.Cut(disk, effects[safe:], random); err != nil {
		return 0, err
	}
	return len(effects) - safe, errors.Join(os.Remove(h.c.WriteLog), os.Remove(before), disk.Close())
}

// minLanded is how many cuts have to land in each phase for a run to say something of it.
const minLanded = 3

// landing is where a cut landed.
type landing struct {
	Loader string `json:"loader"`
	Phase  string `json:"phase"`
}

// landedBy is how many cuts landed in a phase, with whatever loader.
func (e *engine) landedBy(phase string) (n int) {
	for at, times := range e.landed {
		if at.Phase == phase {
			n += times
		}
	}
	return n
}

// moreCuts cuts again in phases that too few cuts landed in, as often as it takes, but
// not for ever. On a machine that is much faster than another one some come too late, until
// they have shown its pace.
func (e *engine) moreCuts() {
	if e.cuts < minCuts || e.match.String() != "" {
		return
	}
	for i := range moreRounds {
		for n, p := range phases {
			if e.landedBy(p.name) < minLanded {
				e.tell(cutting(1000+i*len(phases)+n, grubBIOS, single(p)))
			}
		}
	}
}

// moreRounds is how often moreCuts tries: for a phase ten times shorter than it was thought to
// be, that leaves out one run of a thousand.
const moreRounds = 4 * minLanded

// minCuts is how many cuts a run has to make for them to have to land everywhere.
const minCuts = 25

// reportCuts says where the power was cut.
func (e *engine) reportCuts() {
	for _, l := range e.cutLoaders() {
		var where []string
		for _, p := range slices.Concat(phases, morePhases) {
			if n := e.landed[landing{l.title, p.name}]; n > 0 {
				where = append(where, fmt.Sprintf("%s %d", p.name, n))
			}
		}
		if where != nil {
			fmt.Fprintf(e.out, "      power cuts, %s, landed in %s\n", l.title, strings.Join(where, ", "))
		}
	}
	for _, p := range phases {
		if n := e.landedBy(p.name); e.cuts >= minCuts && e.match.String() == "" && n < minLanded {
			fmt.Fprintf(e.out, "FAIL  power cuts in %s: got %d, want at least %d\n", p.name, n, minLanded)
			e.failed++
		}
	}
}
