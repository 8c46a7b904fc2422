package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/control"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, term.IsTerminal(int(os.Stderr.Fd()))))
}

// run is main with its surroundings as values.
func run(args []string, stdout, stderr io.Writer, terminal bool) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	c := &cli{out: &printer{stdout}, errs: &printer{stderr}, terminal: terminal}
	cmd := c.root()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	return c.end(cmd.ExecuteContext(ctx))
}

// exitError is an error with the exit code that belongs to it.
type exitError struct {
	code int
	err  error // nil: everything was said already
}

func (e exitError) Error() string {
	if e.err == nil {
		return "failed"
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// usage is an error about the command line.
func usage(err error) error { return exitError{control.ExitUsage, err} }

// failed is an error with the exit code of its reason.
func failed(err error) error { return exitError{control.ExitOf(agent.CodeOf(err)), err} }

// end reports err, if any, and returns the exit code.
func (c *cli) end(err error) int {
	if err == nil {
		return control.ExitDone
	}
	var e exitError
	if !errors.As(err, &e) {
		// Only cobra's own errors, about the command line, arrive without a code.
		e = exitError{control.ExitUsage, err}
	}
	switch {
	case e.err == nil:
	case errors.Is(e.err, context.Canceled):
		c.errs.line("twinkeel: interrupted")
	case c.json && c.started:
		text := e.err.Error()
		var r *agent.Refusal
		if errors.As(e.err, &r) {
			text = r.Text
		}
		if err := c.out.json(struct {
			Error agent.Reason `json:"error"`
		}{agent.Reason{Code: agent.CodeOf(e.err), Text: text}}); err != nil {
			c.errs.line("twinkeel: %v", err)
		}
	default:
		c.errs.lines("twinkeel: ", e.err.Error())
		if e.code == control.ExitUsage {
			c.errs.line("twinkeel: `twinkeel help` lists the commands")
		}
	}
	return e.code
}
