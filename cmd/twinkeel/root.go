package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/agent/control"
	"github.com/twinkeel/twinkeel/agent/fetcher/child"
	"github.com/twinkeel/twinkeel/agent/writer"
)

// cli is one run of the command.
type cli struct {
	out, errs *printer
	terminal  bool

	path    string // --config
	json    bool
	started bool // past the command line
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "twinkeel",
		Short: "See and steer the updates of this host",
		Long: `twinkeel shows what this host runs, what it would install next and what keeps it
from doing so, and takes an operator's decisions. It asks the daemon, twinkeeld(8);
where none answers it does the work itself, so that rollback needs neither daemon
nor network.

` + control.ExitHelp,
		Version:       writer.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(cmd.Help(), exitError{code: control.ExitUsage})
		},
	}
	root.PersistentFlags().StringVar(&c.path, "config", config.DefaultPath, "configuration `file`")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print one JSON value instead of text")
	for _, cmd := range []*cobra.Command{
		c.status(), c.check(), c.history(), c.why(), c.verify(), c.doctor(),
		c.update(), c.rollback(), c.hold(), c.unhold(), c.undeny(), c.trust(), c.initHost(), c.app(),
	} {
		explain(cmd)
		root.AddCommand(cmd)
	}
	root.AddCommand(c.man(root), &cobra.Command{
		Use:    "fetcher",
		Short:  "Serve as the process without privileges",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := child.Main(cmd.Context()); err != nil {
				return exitError{control.ExitFailed, err}
			}
			return nil
		},
	})
	return root
}

// explain adds the exit codes to a command's help, and to those below it.
func explain(cmd *cobra.Command) {
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}
	cmd.Long += "\n\n" + control.ExitHelp
	for _, sub := range cmd.Commands() {
		explain(sub)
	}
}

// do carries out a request: by the daemon or, where none answers, in this process.
func (c *cli) do(ctx context.Context, r agent.Request) (agent.Result, error) {
	c.started = true
	cfg, err := config.Load(c.path)
	if err != nil {
		return agent.Result{}, exitError{control.ExitFailed, err}
	}
	bar := &progress{out: c.errs, terminal: c.terminal}
	defer bar.finish()
	client := &control.Client{Path: cfg.Socket}
	result, err := client.Do(ctx, r, bar.show)
	if errors.Is(err, control.ErrNoDaemon) {
		result, err = c.inProcess(ctx, cfg, r, bar)
	}
	if err != nil {
		return result, failed(err)
	}
	return result, nil
}

func (c *cli) inProcess(ctx context.Context, cfg *config.Config, r agent.Request, bar *progress) (agent.Result, error) {
	log := slog.New(slog.NewTextHandler(c.errs.w, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w, err := writer.Open(cfg, log, r.Verb == agent.VerbInit)
	if err != nil {
		return agent.Result{}, err
	}
	defer w.Close()
	return w.Do(ctx, r, bar.show)
}
