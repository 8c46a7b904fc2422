package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/agent/control"
	"github.com/twinkeel/twinkeel/agent/writer"
	"github.com/twinkeel/twinkeel/workloads"
)

func (c *cli) appLogs() *cobra.Command {
	var n int
	var from string
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show an application's output",
		Long: `Show the newest lines of an application's output, or with --since those of a time and
later. With --follow it goes on with what is written next, over restarts and updates of
application and agent, until it is interrupted.`,
		Example: "  twinkeel app logs web -n 200\n  twinkeel app logs web --since 10m -f",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := agent.AppRequest{Do: agent.AppLogs, Name: args[0], Lines: n}
			switch {
			case n < 1:
				return usage(fmt.Errorf("number: got %d, want 1 or more", n))
			case follow && c.json:
				return usage(errors.New("follow: what has no end is no JSON value"))
			case from != "":
				t, err := parseSince(from, time.Now())
				if err != nil {
					return usage(err)
				}
				r.Since = t
				if !cmd.Flags().Changed("number") {
					r.Lines = 0
				}
			}
			text, err := c.logs(cmd.Context(), r)
			if err != nil {
				return err
			}
			if c.json {
				return c.out.json(strings.Split(strings.TrimSuffix(text, "\n"), "\n"))
			}
			if !follow {
				return c.showLog(text)
			}
			return c.followLog(cmd.Context(), args[0], text)
		},
	}
	cmd.Flags().IntVarP(&n, "number", "n", 100, "the newest `N` lines")
	cmd.Flags().StringVar(&from, "since", "", "`TIME` of the first line: a date, a date and time, or a duration before now")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written next")
	return cmd
}

func (c *cli) logs(ctx context.Context, r agent.AppRequest) (string, error) {
	result, err := c.do(ctx, agent.Request{Verb: agent.VerbApp, App: &r})
	if err != nil {
		return "", err
	}
	if result.Apps == nil {
		return "", failed(errors.New("app logs: got an empty answer"))
	}
	return result.Apps.Logs, nil
}

func (c *cli) showLog(text string) error {
	if !c.terminal {
		_, err := io.WriteString(c.out.w, text)
		return err
	}
	c.out.lines("", text)
	return nil
}

// followEvery is how often an application's output is asked for.
const followEvery = 500 * time.Millisecond

// followLog goes on after text, until ctx ends.
func (c *cli) followLog(ctx context.Context, name, text string) error {
	var t tail
	for {
		if err := c.showLog(t.next(text)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
		r := agent.AppRequest{Do: agent.AppLogs, Name: name, Since: t.last}
		if t.last.IsZero() {
			r.Lines = 1000
		}
		var err error
		text, err = c.moreLog(ctx, r)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && agent.CodeOf(err) != agent.CodeBusy:
			return err
		case err != nil:
			text = ""
		}
	}
}

// moreLog asks the daemon or, while there is none, looks for itself: to do the daemon's work
// twice a second would be in the way of its start.
func (c *cli) moreLog(ctx context.Context, r agent.AppRequest) (string, error) {
	cfg, err := config.Load(c.path)
	if err != nil {
		return "", failed(err)
	}
	client := &control.Client{Path: cfg.Socket}
	result, err := client.Do(ctx, agent.Request{Verb: agent.VerbApp, App: &r}, nil)
	if err == nil && result.Apps != nil {
		return result.Apps.Logs, nil
	}
	if !errors.Is(err, control.ErrNoDaemon) {
		return "", failed(err)
	}
	console, err := writer.OpenConsole(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", failed(err)
	}
	var b strings.Builder
	if err := console.Logs(ctx, r.Name, 1000, false, &b); err != nil {
		return "", failed(err)
	}
	return b.String(), nil
}

// tail tells what of an output is new, by the time before each line. Several lines may
// have the same one.
type tail struct {
	last time.Time // of the last line that was shown
	same int       // lines of that time that were
}

// next returns the whole lines of text, which begins at last, that were not shown yet.
func (t *tail) next(text string) string {
	text = text[:strings.LastIndexByte(text, '\n')+1] // the rest comes when it is whole
	skip := t.same
	var b strings.Builder
	for line := range strings.Lines(text) {
		stamp, _, _ := strings.Cut(line, " ")
		at, err := time.Parse(workloads.LogTime, stamp)
		switch {
		case err != nil || at.Before(t.last):
			continue // the rest of a line whose beginning is not kept any more
		case at.Equal(t.last) && skip > 0:
			skip--
			continue
		case at.Equal(t.last):
			t.same++
		default:
			t.last, t.same = at, 1
		}
		b.WriteString(line)
	}
	return b.String()
}

// parseSince reads what parseUntil reads; a duration counts back from now.
func parseSince(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	t, err := parseUntil(s, now)
	if err != nil {
		return t, fmt.Errorf("since: %w", errors.Unwrap(err))
	}
	return t, nil
}
