package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/agent/confine"
	"github.com/twinkeel/twinkeel/agent/control"
	"github.com/twinkeel/twinkeel/agent/fetcher/child"
	"github.com/twinkeel/twinkeel/agent/writer"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with its surroundings as values.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	cmd := command(stderr)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return control.ExitDone
	}
	var code exitError
	if !errors.As(err, &code) {
		// Only cobra's own errors, about the command line, arrive without a code.
		code = exitError{control.ExitUsage, err}
	}
	if code.err != nil {
		fmt.Fprintf(stderr, "twinkeeld: %v\n", code.err)
	}
	return code.code
}

func command(stderr io.Writer) *cobra.Command {
	var path, format string
	var once bool
	cmd := &cobra.Command{
		Use:   "twinkeeld",
		Short: "Keep this host up to date over two slots",
		Long: `twinkeeld polls the update server, stages new releases into the idle slot, tries
them for one boot, and commits them or goes back. It answers twinkeel(1).

Exit status: 0 done, 1 error, 2 usage. With --once also: 3 nothing to do,
4 held by policy, 5 not trusted, 6 rolled back, 7 busy.`,
		Example: `  twinkeeld --config /etc/twinkeel/twinkeel.toml
  twinkeeld --once --log json`,
		Version:       writer.Version,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logger(stderr, format)
			if err != nil {
				return exitError{control.ExitUsage, err}
			}
			c, err := config.Load(path)
			if err != nil {
				return exitError{control.ExitFailed, err}
			}
			confineWriter(c, log)
			if once {
				return runOnce(cmd.Context(), c, log)
			}
			return serve(cmd.Context(), c, log)
		},
	}
	cmd.Flags().StringVar(&path, "config", config.DefaultPath, "configuration `file`")
	cmd.Flags().StringVar(&format, "log", "text", "`format` of the log: text or json")
	cmd.Flags().BoolVar(&once, "once", false, "resume what is under way, poll once, go as far as it comes, and end")
	cmd.AddCommand(&cobra.Command{
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
	addMan(cmd)
	cmd.CompletionOptions.DisableDefaultCmd = true
	return cmd
}

// confineWriter takes the network from this process if its fetcher is another service. A
// fetcher that it starts itself would inherit the loss, and so would the shims of
// applications, which set up networks.
func confineWriter(c *config.Config, log *slog.Logger) {
	if c.Fetcher == config.FetcherSpawn || len(c.Apps.Wanted) > 0 {
		return
	}
	if err := confine.Writer(); err != nil {
		log.Warn("not confined as it should be", "err", err)
	}
}

func logger(w io.Writer, format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	}
	return nil, fmt.Errorf("log: got %q, want text or json", format)
}
