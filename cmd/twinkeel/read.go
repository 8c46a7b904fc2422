package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/control"
)

func (c *cli) status() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show slots, phase, and what keeps updates away",
		Example: "  twinkeel status\n  twinkeel status --json | jq -r .phase",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.do(cmd.Context(), agent.Request{Verb: agent.VerbStatus})
			if err != nil {
				return err
			}
			if r.Status == nil {
				return failed(errors.New("status: got an empty answer"))
			}
			if c.json {
				return c.out.json(r.Status)
			}
			showStatus(c.out, r.Status)
			return nil
		},
	}
}

func (c *cli) check() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Ask the server what this host should run",
		Long: `Ask the server what this host should run, without installing anything.
Exit status 0 says that a release can be installed now.`,
		Example: "  twinkeel check && twinkeel update",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.do(cmd.Context(), agent.Request{Verb: agent.VerbCheck})
			if err != nil {
				return err
			}
			if err := c.outcome(r.Outcome); err != nil {
				return err
			}
			if r.Outcome != nil && len(r.Outcome.Reasons) > 0 {
				return exitError{code: control.ExitOf(r.Outcome.Reasons[0].Code)}
			}
			return nil
		},
	}
}

// outcome prints what a request did.
func (c *cli) outcome(o *agent.Outcome) error {
	if o == nil {
		return failed(errors.New("got an empty answer"))
	}
	if c.json {
		return c.out.json(o)
	}
	c.out.line("%s", o.Text)
	if f := o.Offer; f != nil {
		c.out.line("release %s  %s to download (%s)", f.Version, bytesText(f.DownloadBytes), f.Route)
	}
	for _, r := range o.Reasons {
		if r.Text != o.Text {
			c.out.line("reason  %s  %s", r.Code, r.Text)
		}
	}
	return nil
}

func (c *cli) history() *cobra.Command {
	var n int
	cmd := &cobra.Command{
		Use:     "history",
		Short:   "List what was installed, left again, and decided by hand",
		Example: "  twinkeel history -n 5",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 0 {
				return usage(fmt.Errorf("number: got %d, want 0 or more", n))
			}
			r, err := c.do(cmd.Context(), agent.Request{Verb: agent.VerbHistory})
			if err != nil {
				return err
			}
			h := r.History
			if n > 0 && len(h) > n {
				h = h[len(h)-n:]
			}
			if c.json {
				return c.out.json(orEmpty(h))
			}
			showHistory(c.out, h)
			return nil
		},
	}
	cmd.Flags().IntVarP(&n, "number", "n", 0, "only the newest `N` entries")
	return cmd
}

func showHistory(p *printer, h []agent.HistoryEntry) {
	if len(h) == 0 {
		p.line("nothing happened yet")
		return
	}
	for _, e := range h {
		parts := []string{timeText(e.Time), e.Kind, e.Result}
		switch {
		case !e.From.IsZero() && !e.To.IsZero():
			parts = append(parts, e.From.String()+" → "+e.To.String())
		case !e.To.IsZero():
			parts = append(parts, e.To.String())
		}
		if e.Slot != "" {
			parts = append(parts, "slot "+e.Slot)
		}
		if e.Bytes > 0 {
			parts = append(parts, bytesText(e.Bytes))
		}
		if e.Code != "" {
			parts = append(parts, "["+e.Code+"]")
		}
		p.line("%s", strings.Join(parts, "  "))
		if e.Text != "" {
			p.line("    %s", e.Text)
		}
		for _, l := range append(e.Evidence[:len(e.Evidence):len(e.Evidence)], e.Kernel...) {
			p.line("    | %s", l)
		}
	}
}

func (c *cli) why() *cobra.Command {
	return &cobra.Command{
		Use:     "why",
		Short:   "Explain what this host would do next and what keeps it from it",
		Example: "  twinkeel why",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.do(cmd.Context(), agent.Request{Verb: agent.VerbWhy})
			if err != nil {
				return err
			}
			w := r.Why
			if w == nil {
				return failed(errors.New("why: got an empty answer"))
			}
			if c.json {
				return c.out.json(w)
			}
			c.out.line("%s", w.Text)
			for _, reason := range w.Reasons {
				c.out.line("reason  %s  %s", reason.Code, reason.Text)
			}
			for _, route := range w.Routes {
				chosen := ""
				if route.Chosen {
					chosen = "  chosen"
				}
				text := ""
				if route.Text != "" {
					text = "  " + route.Text
				}
				c.out.line("route   %s by %s  %s%s%s", route.Image, route.Kind, bytesText(route.Download), chosen, text)
			}
			if w.Left != nil {
				c.out.line("left    the newest trial:")
				showHistory(c.out, []agent.HistoryEntry{*w.Left})
			}
			return nil
		},
	}
}

func (c *cli) verify() *cobra.Command {
	return &cobra.Command{
		Use:       "verify [a|b]",
		Short:     "Read slots back and compare them with what was signed",
		Example:   "  twinkeel verify\n  twinkeel verify b",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"a", "b"},
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := c.do(cmd.Context(), agent.Request{Verb: agent.VerbVerify, Slot: strings.Join(args, "")})
			if err != nil {
				return err
			}
			bad := 0
			var rows [][]string
			for _, v := range r.Verify {
				state := "good"
				if !v.OK {
					state = "BAD"
					bad++
				}
				text := "root " + v.Want.Short()
				if !v.OK {
					text = fmt.Sprintf("got %s, want %s  %s", v.Got.Short(), v.Want.Short(), v.Text)
				}
				rows = append(rows, []string{"slot " + v.Slot, v.Image, state, text})
			}
			if c.json {
				err = c.out.json(orEmpty(r.Verify))
			} else if len(rows) == 0 {
				c.out.line("no slot holds a known release")
			} else {
				c.out.table(rows)
			}
			if err == nil && bad > 0 {
				return exitError{code: control.ExitFailed}
			}
			return err
		},
	}
}

func (c *cli) doctor() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Examine this host without changing it",
		Long: `Examine boot loader, state directory, slots, trust and health probes, and say what
to do about what is wrong. Exit status 1 says that something is an error.`,
		Example: "  twinkeel doctor",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.do(cmd.Context(), agent.Request{Verb: agent.VerbDoctor})
			if err != nil {
				return err
			}
			findings, err := c.withConfig(r.Doctor)
			if err != nil {
				return err
			}
			bad := false
			for _, f := range findings {
				bad = bad || f.Level == "error"
			}
			if c.json {
				if err := c.out.json(orEmpty(findings)); err != nil {
					return err
				}
			} else {
				showFindings(c.out, findings)
			}
			if bad {
				return exitError{code: control.ExitFailed}
			}
			return nil
		},
	}
}

func showFindings(p *printer, findings []agent.Finding) {
	for _, f := range findings {
		p.line("%-8s %s: %s", f.Level, f.Topic, f.Text)
		if f.Hint != "" && f.Level != "ok" {
			p.line("         → %s", f.Hint)
		}
	}
}

// orEmpty makes an empty list of none: JSON's null is no list.
func orEmpty[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
