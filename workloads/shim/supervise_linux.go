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

func (s *status) get() Status {
	s.Lock()
	defer s.Unlock()
	return s.Status
}

// supervise runs the application until it is stopped, and says once how its start went.
func (s *supervisor) supervise(ctx context.Context, started func(error)) error {
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
		p, err := s.cage.start(ctx)
		since := time.Now()
		if err == nil { // before anybody is told that it runs
			s.status.set(func(st *Status) { st.State.Running, st.State.Since, st.PID = true, since, p.pid() })
			time.AfterFunc(settled, trim)
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
			case answer := <-s.stops:
				err := s.end(p, ended)
				answer <- err
				return err
			case exit = <-tooMuch: // and stays so until somebody has made room
				halted = true
				if err := s.end(p, ended); err != nil {
					s.log.Error("application does not end", "err", err)
				}
			}
			s.status.set(func(st *Status) { st.State.Running, st.PID = false, 0 })
		}
		if err := s.clean(); err != nil {
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
		case answer := <-s.stops:
			answer <- nil
			return nil
		}
	}
}

// end asks the application to end, and ends it if it does not.
func (s *supervisor) end(p process, ended <-chan outcome) error {
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
	err := s.clean()
	s.drain()
	return err
}
