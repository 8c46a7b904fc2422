package shim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// An application that ends is started again after a pause, which doubles each time and
// begins anew when it has run for calm. After loops ends without calm it is looping.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Minute
	calm       = time.Minute
	loops      = 3

	// settled is when a start has done what it does once.
	settled = time.Second
)

// pause is the nth pause, n from 0. Chance, from 0 to 1, keeps applications that ended
// together from starting together.
func pause(n int, chance float64) time.Duration {
	p := lastPause
	if n < 10 {
		p = min(lastPause, firstPause<<n)
	}
	return p*3/4 + time.Duration(chance*float64(p/2))
}

// status is what others may ask for while the application runs.
type status struct {
	sync.Mutex
	Status
}

func (s *status) set(change func(*Status)) {
	s.Lock()
	defer s.Unlock()
	change(&s.Status)
}

// runs notes that the application does. How it ended last is kept.
func (st *Status) runs(pid int, since time.Time) {
	st.State.Running, st.State.Since, st.PID = true, since, pid
	if st.State.Restarts == 0 {
		st.State.Exit = ""
	}
}

func (s *status) get() Status {
	s.Lock()
	defer s.Unlock()
	return s.Status
}

// stopping is a wish that the application ends. With early it is answered when nothing of
// the application runs any more, and not when all that it leaves is gone, too.
type stopping struct {
	early  bool
	answer chan<- error
}

// supervise runs the application until it is stopped, and says once how its start went,
// which is made by first.
func (s *supervisor) supervise(ctx context.Context, first func(context.Context) (process, error), started func(error)) error {
	m := s.order.Unit.Manifest
	app, err := m.Digest()
	if err != nil {
		started(err)
		return err
	}
	s.status.set(func(st *Status) {
		st.State.Version, st.State.App, st.State.Generation = m.Version, app, s.order.Unit.Generation
		st.State.Quota = s.room.says()
	})
	watching, done := context.WithCancel(ctx)
	defer done()
	tooMuch := make(chan string)
	go s.room.watch(watching, tooMuch)
	for n, short := 0, 0; ; n++ {
		start := s.cage.start
		if n == 0 {
			start = first
		}
		p, err := start(ctx)
		since := time.Now()
		if err == nil { // before anybody is told that it runs
			s.status.set(func(st *Status) { st.runs(p.pid(), since) })
			time.AfterFunc(settled, s.settleDown)
		}
		if n == 0 {
			started(err)
			if err != nil {
				_ = s.clean()
				return err
			}
		}
		exit := fmt.Sprint(err)
		failed, halted := err != nil, false
		if err == nil {
			ended := make(chan outcome, 1)
			go func() { ended <- p.wait() }()
			select {
			case o := <-ended:
				exit, failed = o.exit, o.failed
			case r := <-s.stops:
				return s.stop(r, p, ended)
			case exit = <-tooMuch: // and stays so until somebody has made room
				halted = true
				s.ask(p, ended)
				s.drain()
			}
			s.status.set(func(st *Status) { st.State.Running, st.PID = false, 0 })
		}
		take := s.tidy
		if err != nil { // nobody knows how far that start came
			take = s.clean
		}
		if err := take(); err != nil {
			s.log.Error("what is left of the application does not end", "err", err)
		}
		if time.Since(since) >= calm {
			short = 0
		}
		short++
		s.log.Warn("application ended", "exit", exit)
		s.status.set(func(st *Status) { st.State.Exit, st.State.Looping = exit, halted || short >= loops })
		var again <-chan time.Time
		if r := m.Update.Restart; !halted && (r == "always" || r == "on-failure" && failed) {
			again = time.After(pause(short-1, rand.Float64()))
		}
		select {
		case <-again:
			s.status.set(func(st *Status) { st.State.Restarts++ })
		case r := <-s.stops:
			r.answer <- nil
			return nil
		}
	}
}

// stop ends the application for good, and answers.
func (s *supervisor) stop(r stopping, p process, ended <-chan outcome) error {
	s.ask(p, ended)
	if r.early {
		r.answer <- nil
	}
	err := s.tidy()
	s.drain()
	if !r.early {
		r.answer <- err
	}
	return err
}

// ask asks the application to end, and ends it if it does not.
func (s *supervisor) ask(p process, ended <-chan outcome) {
	m := s.order.Unit.Manifest
	signal := unix.SignalNum(m.Run.Signal)
	if signal == 0 {
		if n, err := strconv.Atoi(m.Run.Signal[len("SIG"):]); err == nil && n > 0 && n < 65 {
			signal = unix.Signal(n)
		} else {
			signal = unix.SIGTERM
		}
	}
	_ = p.signal(signal)
	select {
	case <-ended:
	case <-time.After(time.Duration(m.Run.Grace)):
		_ = p.kill()
		<-ended
	}
}
