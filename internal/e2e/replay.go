package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/twinkeel/twinkeel/internal/vm"
)

// cutPoint is a state that a power cut could have left of a recorded update: the first n
// effects, of which those behind the last flush are all there or, with chance, lost,
// kept or torn.
type cutPoint struct {
	n      int
	chance bool
}

// maxParts is into how many cases the states of the write log are divided, unless there are
// fewer states.
const maxParts = 8

// writeLog returns the cases that boot what cuts would leave of the recorded update:
// every prefix, or a sample, and as many with chance as are asked for.
func (e *engine) writeLog() (list []scenario) {
	if e.prefixes == 0 {
		return nil
	}
	parts := min(maxParts, e.prefixes+e.torn)
	for part := range parts {
		list = append(list, scenario{
			name: fmt.Sprintf("write log of an update, part %d of %d", part+1, parts), sample: true, recorded: true, releases: []string{"2.0"},
			tell: func(e *engine, h *host, random *rand.Rand) error { return e.replay(h, part, parts, random) },
		})
	}
	return list
}

// record updates a machine from its first boot to the commit, and keeps what was written to its disk.
func (e *engine) record(l loader) error {
	h, err := e.newHost("recorded-"+l.id(), l)
	if err != nil {
		return err
	}
	defer h.off()
	h.c.WriteLog = filepath.Join(h.dir, "writes")
	if err := commits(e, h, nil); err != nil {
		return err
	}
	if err := h.shutDown(); err != nil {
		return err
	}
	if e.keptAfter, err = h.keptBoots(); err != nil {
		return err
	}
	e.effects, err = vm.ReadLog(h.c.WriteLog)
	return err
}

// points returns the states to boot; prefixes that end with nothing but a flush leave the
// same disk as the one before, and are not booted again. With fewer prefixes asked for than there are, those
// that change something else than a slot's content come first, evenly spread.
func (e *engine) points() (list []cutPoint) {
	var other, slot []int
	for n, f := range e.effects {
		if len(f.Data) == 0 && n > 0 {
			continue
		}
		if f.At >= bootAt && f.At < dataAt {
			slot = append(slot, n+1)
		} else {
			other = append(other, n+1)
		}
	}
	take := func(from []int, n int, chance bool) {
		n = min(n, len(from))
		for i := range n {
			list = append(list, cutPoint{from[(2*i+1)*len(from)/(2*n)], chance}) // the middle of each part
		}
	}
	take(other, e.prefixes, false)
	take(slot, e.prefixes-min(e.prefixes, len(other)), false)
	take(other, e.torn, true)
	return list
}

// replay boots one part of the states.
func (e *engine) replay(h *host, part, parts int, random *rand.Rand) error {
	points, done, old, trial, more := e.points(), 0, 0, 0, 0
	for i := part; i < len(points); i += parts {
		p := points[i]
		u, err := e.revive(h, p, random)
		if err == nil && i%20 == 5 { // and now and then, all that follows
			err = e.survived(h)
			more++
		}
		if err != nil {
			return fmt.Errorf("effect %d of %d, chance %t: %w", p.n, len(e.effects), p.chance, err)
		}
		done++
		if u["slot"] == "a" {
			old++
		} else if u["trial"] == "1" {
			trial++
		}
	}
	h.note("%d states of %d effects: %d booted the old release, %d the new one on trial, %d the committed one; %d went on to the new one at rest", done, len(e.effects), old, trial, done-old-trial, more)
	return nil
}

// revive boots one state, and checks what came up, and then what is on the disk: counters and
// data. The machine is off afterwards.
func (e *engine) revive(h *host, p cutPoint, random *rand.Rand) (up, error) {
	if err := e.rebuild(h, p, random); err != nil {
		return nil, err
	}
	if err := os.Remove(h.c.Log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	h.watched, h.kept = &watched{}, e.keptBefore
	if !p.chance && p.n == len(e.effects) {
		h.kept = e.keptAfter
	}
	u, err := e.known(h)
	if err != nil {
		return nil, err
	}
	h.off()
	return u, errors.Join(h.counted(), h.checkData())
}

// rebuild makes the disk what it was at a point.
func (e *engine) rebuild(h *host, p cutPoint, random *rand.Rand) error {
	if err := vm.Clone(e.disks[grubBIOS.name], h.c.Disk); err != nil {
		return err
	}
	disk, err := os.OpenFile(h.c.Disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	safe := p.n
	if p.chance {
		for safe > 0 && !e.effects[safe-1].Flush {
			safe--
		}
	}
	if err := vm.Cut(disk, e.effects[:safe], nil); err != nil {
		return err
	}
	if err := vm.Cut(disk, e.effects[safe:p.n], random); err != nil {
		return err
	}
	return disk.Close()
}
