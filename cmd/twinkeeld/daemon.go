package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/agent/control"
	"github.com/twinkeel/twinkeel/agent/writer"
)

// exitError is an error with the exit code that belongs to it.
type exitError struct {
	code int
	err  error // nil: say nothing
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// failed is an error of the agent with its exit code.
func failed(err error) error { return exitError{control.ExitOf(agent.CodeOf(err)), err} }

// serve is the daemon's life.
func serve(ctx context.Context, c *config.Config, log *slog.Logger) error {
	w, err := writer.Open(c, log, false)
	if err != nil {
		return failed(err)
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	guard := control.SystemGuard()
	l, err := control.Listen(c.Socket, guard)
	switch {
	case agent.CodeOf(err) == agent.CodeBusy:
		return failed(err)
	case err != nil:
		// A trial has to be judged even when no operator can be served.
		log.Error("no control socket", "err", err)
	default:
		wg.Go(func() {
			s := &control.Server{Operator: w, Guard: guard, Log: log}
			if err := s.Serve(ctx, l); err != nil {
				log.Error("control socket ended", "err", err)
			}
		})
	}
	wg.Go(func() { supervise(ctx, w, log) })
	log.Info("started", "version", writer.Version, "channel", c.Channel, "server", c.Server)
	notify(log, daemon.SdNotifyReady)
	err = w.Run(ctx)
	notify(log, daemon.SdNotifyStopping)
	cancel()
	if err != nil && !errors.Is(err, context.Canceled) {
		return failed(err)
	}
	log.Info("stopped")
	return nil
}

// statusEvery is how often the service manager is told what the agent does.
const statusEvery = 30 * time.Second

// supervise tells the service manager that the agent is alive for as long as it
// answers: one that hangs in its state directory or boot loader is started again.
func supervise(ctx context.Context, o agent.Operator, log *slog.Logger) {
	every := statusEvery
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog", "err", err)
	}
	if watchdog > 0 {
		every = min(every, watchdog/3)
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if text, ok := pulse(ctx, o, every); ok {
			notify(log, "STATUS="+text)
			if watchdog > 0 {
				notify(log, daemon.SdNotifyWatchdog)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// pulse asks the agent for its status; ok is false if it does not answer in time.
func pulse(ctx context.Context, o agent.Operator, within time.Duration) (text string, ok bool) {
	answer := make(chan string, 1)
	go func() {
		r, err := o.Do(ctx, agent.Request{Verb: agent.VerbStatus}, nil)
		if err != nil || r.Status == nil {
			answer <- "status cannot be read"
			return
		}
		answer <- summary(r.Status)
	}()
	select {
	case text = <-answer:
		return text, true
	case <-time.After(within):
		return "", false
	}
}

// summary is a status in one line.
func summary(s *agent.Status) string {
	text := fmt.Sprintf("%s; slot %s runs", s.Phase, s.Running)
	for _, sl := range s.Slots {
		if sl.Running && sl.Version != nil {
			text += " " + sl.Version.String()
		}
	}
	if len(s.Reasons) > 0 {
		text += "; " + s.Reasons[0].Code
	}
	return text
}

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("notify service manager", "err", err)
	}
}

// runOnce does one cycle and tells by its exit code what came of it.
func runOnce(ctx context.Context, c *config.Config, log *slog.Logger) error {
	w, err := writer.Open(c, log, false)
	if err != nil {
		return failed(err)
	}
	defer w.Close()
	before := newest(ctx, w)
	pollErr := w.Once(ctx)
	// What ended counts for more than what the poll behind it found.
	if e := newest(ctx, w); e != before {
		switch e.result {
		case "committed":
			return nil
		case "rolled-back":
			return exitError{control.ExitBack, fmt.Errorf("release %s was tried and left again", e.to)}
		}
	}
	if pollErr != nil {
		return failed(pollErr)
	}
	r, err := w.Do(ctx, agent.Request{Verb: agent.VerbStatus}, nil)
	if err != nil {
		return failed(err)
	}
	switch r.Status.Phase {
	case agent.Idle:
	case agent.Reverting:
		return exitError{control.ExitBack, errors.New("the trial is over; the next boot goes back")}
	default:
		return nil
	}
	for _, reason := range r.Status.Reasons {
		if code := control.ExitOf(reason.Code); code != control.ExitFailed {
			return exitError{code, errors.New(reason.Text)}
		}
	}
	return nil
}

// ending is how the newest transaction ended.
type ending struct {
	seq        uint64
	result, to string
}

func newest(ctx context.Context, o agent.Operator) (e ending) {
	r, err := o.Do(ctx, agent.Request{Verb: agent.VerbHistory}, nil)
	if err != nil {
		return e // the history only explains
	}
	for _, h := range r.History {
		if h.Seq > e.seq {
			e = ending{h.Seq, h.Result, h.To.String()}
		}
	}
	return e
}
