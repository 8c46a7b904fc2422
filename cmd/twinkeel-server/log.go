package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/server"
	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/translog"
)

func newLogCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show, verify, watch and change the release log",
		Long: `The release log is a public list of every release that was ever offered. Hosts install
nothing that does not stand in it, and notice when it is shown to them otherwise than
before. So nobody can give one host alone a release that others never see, even with
every release key: it stands in the log, where "log monitor" finds it.

  twinkeel-server log show site
  twinkeel-server log verify site
  twinkeel-server log monitor https://updates.example.net --root root.json --state DIR` + exitStatus,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("want: log show|verify|monitor|policy|rotate")
		},
	}
	cmd.AddCommand(newLogShowCommand(t), newLogVerifyCommand(t), newLogMonitorCommand(t), newLogPolicyCommand(t), newLogRotateCommand(t))
	return cmd
}

func (t *terminal) logReport(r *server.LogReport) {
	t.say("log %s, %d entries, root %s, hosts: %s", r.Policy.Origin, r.Size, r.Root.Short(), r.Policy.Mode)
	for _, e := range r.Entries {
		where, what := e.Channel, e.Compatible
		if e.Publisher != "" {
			where, what = "app", e.Publisher+"/"+e.Name
		}
		t.say("  %6d  %-12s %-16s %-20s manifest %s", e.Index, where, e.Version, what, e.Manifest)
	}
}

func newLogShowCommand(t *terminal) *cobra.Command {
	var from int64
	cmd := &cobra.Command{
		Use:   "show DIR",
		Short: "Print the entries of the log, each checked",
		Long:  "Show prints every release that was ever logged.\n\n  twinkeel-server log show site --from 100" + exitStatus,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if from < 0 {
				return usagef("--from: got %d, want 0 or more", from)
			}
			site, err := server.OpenReadOnly(args[0], t.options())
			if err != nil {
				return err
			}
			r, err := site.Log(cmd.Context(), from)
			if err != nil {
				return err
			}
			return t.answer(r, func() { t.logReport(r) })
		},
	}
	cmd.Flags().Int64Var(&from, "from", 0, "first entry to print")
	return cmd
}

func newLogVerifyCommand(t *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "verify DIR",
		Short: "Build the log's tree anew and compare it with what is served",
		Long: `Verify computes the tree from its entries, compares every file with it, and looks up every
release that is listed.

  twinkeel-server log verify site` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			site, err := server.OpenReadOnly(args[0], t.options())
			if err != nil {
				return err
			}
			r, err := site.VerifyLog(cmd.Context())
			if err != nil {
				return err
			}
			return errors.Join(t.answer(r, func() {
				t.say("log %s: %d entries, %d of them not listed any more", r.Policy.Origin, r.Size, r.Unlisted)
			}), r.Damaged())
		},
	}
}

func newLogMonitorCommand(t *terminal) *cobra.Command {
	var root, state string
	cmd := &cobra.Command{
		Use:   "monitor URL|DIR --root ROOT.json --state DIR",
		Short: "Watch a log as an outsider: print what is new, fail if it lies",
		Long: `Monitor reads a repository over HTTP, or from a directory, with the client that hosts
run. It fails if the log does not extend the one it saw last, or if a listed release does
not stand in it, and prints the entries that are new since the last run. Run it from a
timer, far from the server, and compare what it prints with what you meant to release.

  twinkeel-server log monitor https://updates.example.net --root root.json --state watch` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			factory, err := os.ReadFile(root)
			if err != nil {
				return err
			}
			r, err := server.Monitor(cmd.Context(), server.MonitorOptions{Source: sourceOf(args[0]), Factory: factory, Dir: state, Options: t.options()})
			if err != nil {
				return err
			}
			if err := errors.Join(t.answer(r, func() { t.logReport(r) }), r.Damaged()); err != nil {
				return err
			}
			if len(r.Entries) == 0 {
				return fmt.Errorf("no new entries: %w", server.ErrNothingToDo)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "the first root, from a place that you trust")
	cmd.Flags().StringVar(&state, "state", "", "directory for what the monitor remembers")
	require(cmd, "root", "state")
	return cmd
}

// changeLog carries out a change of the log.
func (t *terminal) changeLog(ctx context.Context, dir, propose string, in server.LogOptions) error {
	in.Propose = propose != ""
	return t.on(dir, func(site *server.Site) error {
		r, err := site.ChangeLog(ctx, in)
		if err != nil {
			return err
		}
		if r.Key != "" {
			t.hint("the log's key is %s; the one before it is needed no longer once this is published", r.Key)
		}
		return t.conclude(r.Proposal, propose, r, func() { t.say("release log %s: hosts %s", r.Policy.Origin, r.Policy.Mode) })
	})
}

func newLogPolicyCommand(t *terminal) *cobra.Command {
	var propose string
	cmd := &cobra.Command{
		Use:   "policy DIR require|warn|off",
		Short: "Say what hosts do about a release that is not in the log",
		Long: `Policy states, signed by the targets role, whether hosts require that a release stands in
the log, warn, or do not look. A site without a log gets one that begins with the
releases it lists.

  twinkeel-server log policy site require
  twinkeel-server log policy site warn --propose P` + exitStatus,
		Args:      cobra.ExactArgs(2),
		ValidArgs: []string{string(translog.Require), string(translog.Warn), string(translog.Off)},
		RunE: func(cmd *cobra.Command, args []string) error {
			mode := translog.Mode(args[1])
			if mode != translog.Require && mode != translog.Warn && mode != translog.Off {
				return usagef("got %q, want require, warn or off", args[1])
			}
			return t.changeLog(cmd.Context(), args[0], propose, server.LogOptions{Mode: mode})
		},
	}
	proposeFlag(cmd, &propose)
	return cmd
}

func newLogRotateCommand(t *terminal) *cobra.Command {
	var propose string
	var restart, keepKey bool
	cmd := &cobra.Command{
		Use:   "rotate DIR",
		Short: "Give the log a new key, or begin it anew",
		Long: `Rotate makes a new key for the log; the old one counts no longer. With --restart the log
also gets another name: hosts forget what they saw of the other one. That is for a log
that was lost, restored from an old backup, or shown differently to some hosts by a thief.

  twinkeel-server log rotate site
  twinkeel-server log rotate site --restart --keep-key` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keepKey && !restart {
				return usagef("--keep-key goes with --restart")
			}
			return t.changeLog(cmd.Context(), args[0], propose, server.LogOptions{Rotate: !keepKey, Restart: restart})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&restart, "restart", false, "begin the log anew, under another name")
	f.BoolVar(&keepKey, "keep-key", false, "with --restart: keep the key")
	proposeFlag(cmd, &propose)
	return cmd
}

// sourceOf reads a repository over HTTP, from a site or from a bare repository.
func sourceOf(where string) signing.Source {
	if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
		return webSource{strings.TrimSuffix(where, "/") + "/", &http.Client{Timeout: time.Minute}}
	}
	return dirSource(repositoryOf(where))
}

type dirSource string

func (d dirSource) Fetch(_ context.Context, path string, limit int64) ([]byte, error) {
	f, err := os.Open(filepath.Join(string(d), filepath.FromSlash(path)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, path, limit)
}

func readAtMost(r io.Reader, path string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: got more than %d bytes", path, limit)
	}
	return b, err
}

type webSource struct {
	base   string
	client *http.Client
}

func (s webSource) Fetch(ctx context.Context, path string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return readAtMost(resp.Body, path, limit)
	case http.StatusNotFound:
		return nil, fmt.Errorf("get %s: %w", path, fs.ErrNotExist)
	}
	return nil, fmt.Errorf("get %s: status %d", path, resp.StatusCode)
}
