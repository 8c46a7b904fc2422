package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/vm"
)

// phase is a part of an update in which the power is cut.
type phase struct {
	name   string
	begin  string        // on the console
	spread time.Duration // the cut comes so long after that, or earlier; see pace
}

// The phases, with times that are those of an emulator.
var (
	stage    = phase{"stage", "step=stage", 1500 * time.Millisecond}
	readBack = phase{"read-back", "reading root back", 3 * time.Second}
	arm      = phase{"arm", "mark armed", 250 * time.Millisecond}
	trial    = phase{"trial", "VM up slot=b", 2 * time.Second}
	commit   = phase{"commit", "step=commit", 120 * time.Millisecond}
	revert   = phase{"revert", "mark reverting", 400 * time.Millisecond}
	phases   = []phase{stage, readBack, arm, trial, commit, revert}

	adoption   = phase{"adoption", "VM adopts", 4 * time.Second} // of a fresh disk, in its first boots
	backCheck  = phase{"rollback's read-back", "step=verify", 3 * time.Second}
	backArm    = phase{"rollback's arm", "mark armed", 250 * time.Millisecond}
	backTrial  = phase{"rollback's trial", "VM up slot=a", 2 * time.Second}
	backCommit = phase{"rollback's commit", "step=commit", 120 * time.Millisecond}
	morePhases = []phase{adoption, backCheck, backArm, backTrial, backCommit}
)

// way is where a machine goes that loses its power on it.
type way struct {
	order  string // of the operator
	from   string // the slot that is left
	prefix string // of the names of its phases
}

// The ways: to the new release, to one that is left in its trial, and by hand back from the new one.
var (
	updating  = way{order: "run /usr/bin/twinkeel update 2.0 --now", from: "a"}
	condemned = way{order: "run /usr/bin/twinkeel update 2.2 --now", from: "a"}
	goingBack = way{order: "run /usr/bin/twinkeel rollback --reason test", from: "b", prefix: "rollback's "}
)

// leg is a way from rest to rest, and the phases on it in which the power is cut.
type leg struct {
	way    way
	phases []phase
}

// journey is what one machine goes through.
type journey []leg

// journeys are those of a run, over again as long as it has cuts left; one round of them comes
// to every phase as often as a run has to, with as few boots as that takes. What an agent goes on
// with by itself it does not report, so that only one that was told to update is seen reading
// back: it is the first phase of its leg.
var journeys = []journey{
	{{updating, []phase{adoption, adoption, stage, arm, trial, commit}}, {goingBack, []phase{backCheck, backArm, backTrial, backCommit}}},
	{{condemned, []phase{readBack, stage, trial, revert}}, {updating, []phase{arm, commit}}},
	{{condemned, []phase{readBack, arm, revert}}, {updating, []phase{stage, trial, commit}}},
	{{condemned, []phase{revert}}, {updating, []phase{readBack, commit}}},
}

// single is a journey with one cut.
func single(p phase) journey {
	if p.name == revert.name {
		return journey{{condemned, []phase{p}}}
	}
	return journey{{updating, []phase{p}}}
}

// first returns a journey with its first n cuts, and how many those are.
func (j journey) first(n int) (part journey, cuts int) {
	for _, l := range j {
		if l.phases = l.phases[:min(len(l.phases), n-cuts)]; len(l.phases) > 0 {
			part = append(part, l)
		}
		cuts += len(l.phases)
	}
	return part, cuts
}

// String names the phases.
func (j journey) String() string {
	var legs []string
	for _, l := range j {
		var names []string
		for _, p := range l.phases {
			names = append(names, p.name)
		}
		legs = append(legs, strings.Join(names, ", "))
	}
	return strings.Join(legs, "; ")
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
		j, cuts := journeys[i%len(journeys)].first(n)
		n -= cuts
		list = append(list, cutting(i, l, j))
	}
	return list
}

// cutting is the case of one machine that loses power on a journey.
func cutting(i int, l loader, j journey) scenario {
	return scenario{
		name: fmt.Sprintf("%s%03d, %s: %s", cutCase, i, l.title, j), sample: true, releases: []string{"2.0", "2.2"}, loader: l,
		tell: func(e *engine, h *host, random *rand.Rand) error {
			for _, l := range j {
				if err := e.cutAll(h, l.way, l.phases, random); err != nil {
					return err
				}
				if err := e.arrives(h, l); err != nil {
					return fmt.Errorf("after the cuts in %s: %w", journey{l}, err)
				}
			}
			return nil
		},
	}
}

// cutAll cuts the power in each phase of a way, takes from the disk what a cut can take, and
// checks what is left.
func (e *engine) cutAll(h *host, w way, phases []phase, random *rand.Rand) error {
	if phases[0].name == adoption.name {
		if err := vm.Clone(e.factory[h.l.id()], h.c.Disk); err != nil {
			return err
		}
	}
	if h.watched == nil {
		h.watched = &watched{}
	}
	for _, p := range phases {
		if err := e.cut(h, w, p, random); err != nil {
			return fmt.Errorf("cut in %s: %w", p.name, err)
		}
	}
	return nil
}

// arrives checks where a leg ends, and turns the machine off.
func (e *engine) arrives(h *host, l leg) error {
	var err error
	switch {
	case l.way == condemned:
		err = e.reverted(h)
	case l.way == goingBack:
		err = e.wentBack(h)
	case l.phases[0].name == adoption.name:
		err = e.adopted(h)
	default:
		err = e.survived(h)
	}
	if err != nil {
		return err
	}
	return h.concluded()
}
