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

	"github.com/twinkeel/twinkeel/internal/vm"
)

// phase is a part of an update in which the power is cut.
type phase struct {
	name   string
	begin  string        // on the console
	spread time.Duration // the cut comes so long after that, or earlier
	from   origin        // the machine that it is a phase of
}

// origin is what a machine is on its way from when its power is cut.
type origin string

// The origins, as names of phases begin.
const (
	updating  origin = ""            // the old release, to the new one
	condemned origin = "condemned"   // a trial that is about to be left
	adopting  origin = "adoption"    // a fresh disk, in its first boots
	goingBack origin = "rollback's " // the new release, back to the old one by hand
)

// The phases, with times that are those of an emulator.
var (
	stage    = phase{"stage", "step=stage", 1500 * time.Millisecond, updating}
	readBack = phase{"read-back", "reading root back", 3 * time.Second, updating}
	arm      = phase{"arm", "mark armed", 250 * time.Millisecond, updating}
	trial    = phase{"trial", "VM up slot=b", 2 * time.Second, updating}
	commit   = phase{"commit", "step=commit", 120 * time.Millisecond, updating}
	revert   = phase{"revert", "mark reverting", 400 * time.Millisecond, condemned}
	adoption = phase{"adoption", "VM adopts", 4 * time.Second, adopting}
	phases   = []phase{stage, readBack, arm, trial, commit, revert}

	backCheck  = phase{"rollback's read-back", "step=verify", 3 * time.Second, goingBack}
	backArm    = phase{"rollback's arm", "mark armed", 250 * time.Millisecond, goingBack}
	backTrial  = phase{"rollback's trial", "VM up slot=a", 2 * time.Second, goingBack}
	backCommit = phase{"rollback's commit", "step=commit", 120 * time.Millisecond, goingBack}
	morePhases = []phase{adoption, backCheck, backArm, backTrial, backCommit}
)

// journeys are the phases in which machines lose their power, one after the other. What
// an agent goes on with by itself it does not report, so that only one that was told to
// update is seen reading back.
var journeys = [][]phase{
	{stage, arm, trial, commit}, {revert}, {readBack, arm, commit},
	{stage, arm, trial, commit}, {revert}, {readBack, arm, commit},
	{adoption, adoption}, {backCheck, backArm, backTrial, backCommit},
}

// landmarks say, by the last of them on the console, in which phase a cut landed.
var landmarks = []struct{ text, phase string }{
	{"VM adopts", "adoption"}, {"VM adopted", "before the update"},
	{"step=stage", "stage"}, {"step=verify", "read-back"}, {"reading root back", "read-back"}, {"reading boot back", "read-back"},
	{`step="mark armed"`, "arm"}, {"VM up slot=b", "trial"}, {"VM up slot=a release=1.0 trial=1", "trial"}, {"step=commit", "commit"}, {`step="mark reverting"`, "revert"},
}

// cutCase is the beginning of the name of every case with power cuts.
const cutCase = "power cuts "

// powerCuts returns cases with n cuts in all. With loaders other than the first, every
// third round of journeys is by one of them.
func powerCuts(n int, loaders []loader) (list []scenario) {
	for i := 0; n > 0; i++ {
		l, round := loaders[0], i/len(journeys)
		if round%3 == 2 {
			l = loaders[round/3%len(loaders)]
		}
		j := journeys[i%len(journeys)]
		j = j[:min(n, len(j))]
		n -= len(j)
		list = append(list, cutting(i, l, j))
	}
	return list
}

// cutting is the case of one machine that loses power in some phases.
func cutting(i int, l loader, phases []phase) scenario {
	var where []string
	for _, p := range phases {
		where = append(where, p.name)
	}
	return scenario{
		name: fmt.Sprintf("%s%03d, %s: %s", cutCase, i, l.title, strings.Join(where, ", ")), sample: true, releases: []string{"2.0", "2.2"}, loader: l,
		tell: func(e *engine, h *host, random *rand.Rand) error { return e.cutAll(h, phases, random) },
	}
}

// cutAll cuts the power in each phase, takes from the disk what a cut can take, and
// checks what is left.
func (e *engine) cutAll(h *host, phases []phase, random *rand.Rand) error {
	from := phases[0].from
	if disk := map[origin]map[string]string{condemned: e.armed, adopting: e.factory, goingBack: e.committed}[from]; disk != nil {
		if err := vm.Clone(disk[h.l.id()], h.c.Disk); err != nil {
			return err
		}
	}
	h.watched = &watched{}
	for _, p := range phases {
		if err := e.cut(h, p, random); err != nil {
			return fmt.Errorf("cut in %s: %w", p.name, err)
		}
	}
	switch from {
	case condemned:
		return e.reverted(h)
	case adopting:
		return e.adopted(h)
	case goingBack:
		return e.wentBack(h)
	}
	return e.survived(h)
}

// cut cuts the power once.
func (e *engine) cut(h *host, p phase, random *rand.Rand) error {
	before := filepath.Join(h.dir, "before.img")
	if err := vm.Clone(h.c.Disk, before); err != nil {
		return err
	}
	h.c.WriteLog = filepath.Join(h.dir, "writes")
	delay := time.Duration(random.Int64N(int64(p.spread)))
	there, err := e.until(h, p)
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
	if p.from == goingBack {
		landed = string(goingBack) + landed
	}
	lost, err := h.lose(before, random)
	if err != nil {
		return err
	}
	h.c.WriteLog = ""
	if !there {
		h.note("%s was over", p.name)
		return nil
	}
	h.note("%s: landed in %s, %d ms after its begin; %d unflushed writes lost, torn or kept", p.name, landed, delay.Milliseconds(), lost)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.landed[landing{h.l.title, landed}]++
	return nil
}

// until lets the machine come as far as a phase's begin, with a new update where the old
// one does not go on by itself. It says no if the machine is past it.
func (e *engine) until(h *host, p phase) (bool, error) {
	for range 6 {
		u, err := e.known(h)
		if err != nil {
			return false, err
		}
		left := "a"
		if p.from == goingBack {
			left = "b"
		}
		switch {
		case p.from == adopting:
			var line string
			if line, err = h.see(p.begin, "msg=started"); strings.HasPrefix(line, "msg=") {
				return false, nil
			}
		case u["slot"] == left:
			err = h.urge(p)
		case u["trial"] != "1":
			return false, nil
		case p != trial && p != backTrial:
			var line string
			if line, err = h.see(p.begin, "result=committed"); strings.HasPrefix(line, "result=") {
				return false, nil
			}
		}
		if !errors.Is(err, vm.ErrEnded) {
			return err == nil, err
		}
	}
	return false, fmt.Errorf("%s does not begin", p.name)
}

// urge asks the agent of the slot that is to be left for what it is left for until the phase
// begins.
func (h *host) urge(p phase) error {
	order := "run /usr/bin/twinkeel update 2.0 --now"
	if p.from == goingBack {
		order = "run /usr/bin/twinkeel rollback --reason test"
	}
	words := []string{p.begin, "msg=started"}
	for range 100 {
		line, err := h.seeFor(20*time.Second, words...)
		if err == nil && strings.HasPrefix(line, p.begin) {
			return nil
		}
		if strings.HasPrefix(line, "VM ran ") {
			// Perhaps it is busy with what it goes on with by itself. If not, it is asked again.
			words = []string{p.begin}
			continue
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if err != nil && words[len(words)-1] == "msg=started" {
			continue
		}
		if h.m.Say(order) != nil {
			_, err := h.see("no such line")
			return err
		}
		words = []string{p.begin, "VM ran "}
	}
	return fmt.Errorf("%q is not seen", p.begin)
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
type landing struct{ loader, phase string }

// landedBy is how many cuts landed in a phase, with whatever loader.
func (e *engine) landedBy(phase string) (n int) {
	for at, times := range e.landed {
		if at.phase == phase {
			n += times
		}
	}
	return n
}

// moreCuts cuts again in phases that too few cuts landed in, as often as it takes, but
// not for ever. A machine that is much slower or faster than another one misses some.
func (e *engine) moreCuts() {
	if e.cuts < minCuts || e.match.String() != "" {
		return
	}
	for i := range 2 * minLanded {
		for n, p := range phases {
			if e.landedBy(p.name) < minLanded {
				e.tell(cutting(1000+i*len(phases)+n, grubBIOS, []phase{p}))
			}
		}
	}
}

// minCuts is how many cuts a run has to make for them to have to land everywhere.
const minCuts = 25

// reportCuts says where the power was cut.
func (e *engine) reportCuts() {
	for _, l := range loaders {
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
