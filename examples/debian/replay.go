package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/twinkeel/twinkeel/internal/vm"
)

// writeLog is what is asked for of the recorded update.
type writeLog struct {
	sample int // of states with writes behind the last flush lost or torn
	boots  int // of all states, at most; less than 0: no limit
	seed   uint64
}

// cutPoint is a state that a power cut can leave: the first n effects, of which those behind
// the last flush are all there or, with chance, lost, kept or torn.
type cutPoint struct {
	n      int
	chance uint64 // its seed; 0: all are there
}

// replay looks at what power cuts would leave of the recorded update. After every write that
// is not one into a slot, and in a sample of states with chance, the disk is examined from
// outside. States in which the boot record differs, and the sample, are booted.
func (s *show) replay(w writeLog) error {
	effects, err := vm.ReadLog(s.config.WriteLog)
	if err != nil {
		return err
	}
	disk := filepath.Join(s.work, "replay.img")
	if err := vm.Clone(s.original(), disk); err != nil {
		return err
	}
	o, err := s.examine(disk, "1.0", "1.1")
	if err != nil {
		return err
	}
	points, err := s.everyWrite(o, effects)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(w.seed, 0))
	for range w.sample {
		p := cutPoint{1 + random.IntN(len(effects)), 1 + random.Uint64()>>1}
		err := s.rebuild(disk, effects, p)
		if err == nil {
			err = o.all()
		}
		if err != nil {
			return fmt.Errorf("effect %d of %d, with chance %d: %w", p.n, len(effects), p.chance, err)
		}
		points = append(points, p)
	}
	s.say("%d states with writes lost or torn are whole from outside", w.sample)
	chosen := spread(points, w.boots)
	for _, p := range chosen {
		if err := s.revive(o, effects, p); err != nil {
			return fmt.Errorf("effect %d of %d, with chance %d, booted: %w", p.n, len(effects), p.chance, err)
		}
	}
	s.say("%d of %d states whose boot record differs, or of the sample, were booted", len(chosen), len(points))
	return nil
}

// everyWrite applies the effects one after the other, examines the disk after each that
// is not one into a slot, and returns the first state with each boot record.
func (s *show) everyWrite(o *outside, effects []vm.Effect) (distinct []cutPoint, err error) {
	f, err := os.OpenFile(o.disk, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := o.all(); err != nil {
		return nil, fmt.Errorf("before the first write: %w", err)
	}
	count, seen, next := map[string]int{}, map[[32]byte]bool{o.record: true}, map[string]int{}
	for n, e := range effects {
		if len(e.Data) == 0 {
			continue
		}
		if _, err := f.WriteAt(e.Data, e.At); err != nil {
			return nil, err
		}
		name := o.at(e.At)
		count[name]++
		if err := o.written(name); err != nil {
			return nil, fmt.Errorf("effect %d of %d, in partition %q: %w", n+1, len(effects), name, err)
		}
		if name == "bootenv" && !seen[o.record] {
			seen[o.record] = true
			distinct = append(distinct, cutPoint{n: n + 1})
			slot, version, err := o.picked()
			if err != nil {
				return nil, err
			}
			next[slot+" with "+version]++
		}
	}
	s.say("%d effects: %v writes by partition; the disk is whole after each that is not one into a slot; %d boot records, of which are next %v; %d states of the agent read",
		len(effects), count, len(distinct), next, o.states.States())
	return distinct, nil
}

// spread returns at most n points, evenly.
func spread(points []cutPoint, n int) []cutPoint {
	if n < 0 || n >= len(points) {
		return points
	}
	var list []cutPoint
	for i := range n {
		list = append(list, points[i*len(points)/n])
	}
	return list
}

// rebuild makes the disk what it was at a point.
func (s *show) rebuild(path string, effects []vm.Effect, p cutPoint) error {
	if err := vm.Clone(s.original(), path); err != nil {
		return err
	}
	disk, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	safe := p.n
	for p.chance != 0 && safe > 0 && !effects[safe-1].Flush {
		safe--
	}
	if err := vm.Cut(disk, effects[:safe], nil); err != nil {
		return err
	}
	if err := vm.Cut(disk, effects[safe:p.n], rand.New(rand.NewPCG(p.chance, 1))); err != nil {
		return err
	}
	return disk.Close()
}

// revive boots a state: within three boots one of both releases is up, boot-complete.target
// and all, and the disk is whole afterwards.
func (s *show) revive(o *outside, effects []vm.Effect, p cutPoint) error {
	if err := s.rebuild(o.disk, effects, p); err != nil {
		return err
	}
	s.config.Disk, s.config.WriteLog = o.disk, ""
	const told, complete = "twinkeel.version=", "Reached target boot-complete.target"
	for range 3 {
		if err := s.on(); err != nil {
			return err
		}
		line, err := console{s}.awaits(told)
		if err == nil {
			_, err = console{s}.awaits(complete)
		}
		s.off()
		if errors.Is(err, vm.ErrEnded) {
			continue
		}
		if err != nil {
			return err
		}
		version, _, _ := strings.Cut(strings.TrimPrefix(line, told), " ")
		if o.want[version] == nil {
			return fmt.Errorf("got up with release %q", version)
		}
		s.say("effect %d of %d, with chance %d: release %s is up", p.n, len(effects), p.chance, version)
		return o.all()
	}
	return errors.New("no release came up within 3 boots")
}
