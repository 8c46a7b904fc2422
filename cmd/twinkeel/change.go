package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/release"
)

// change carries out a request and prints its outcome.
func (c *cli) change(cmd *cobra.Command, r agent.Request) error {
	result, err := c.do(cmd.Context(), r)
	if err != nil {
		return err
	}
	return c.outcome(result.Outcome)
}

func (c *cli) update() *cobra.Command {
	r := agent.Request{Verb: agent.VerbUpdate}
	var bundle string
	cmd := &cobra.Command{
		Use:   "update [VERSION]",
		Short: "Install a release and reboot into its trial",
		Long: `Install the newest release that this host is offered, or VERSION, into the idle slot
and reboot into its trial. The daemon then commits it, or goes back by itself.`,
		Example: "  twinkeel update\n  twinkeel update --now --no-reboot\n  twinkeel update --bundle /media/usb/stable.bundle",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				v, err := release.ParseVersion(args[0])
				if err != nil {
					return usage(err)
				}
				r.Version = v
			}
			if bundle != "" {
				f, err := os.Open(bundle)
				if err != nil {
					return failed(fmt.Errorf("bundle: %w", err))
				}
				defer f.Close()
				r.Bundle = f
			}
			return c.change(cmd, r)
		},
	}
	cmd.Flags().BoolVar(&r.Now, "now", false, "do not wait for update window or rollout")
	cmd.Flags().BoolVar(&r.Force, "force", false, "despite a hold or a denial")
	cmd.Flags().BoolVar(&r.NoReboot, "no-reboot", false, "leave the reboot to somebody else")
	cmd.Flags().StringVar(&bundle, "bundle", "", "take it from an offline bundle in `FILE`")
	return cmd
}

func (c *cli) rollback() *cobra.Command {
	r := agent.Request{Verb: agent.VerbRollback}
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Go back to the release in the other slot",
		Long: `Verify the release in the other slot and reboot into it. The release that is left is
not installed again by itself. It needs neither daemon nor network.

Applications go on with the data of today. If one does not read it, the rollback is
refused; with --data=restore all of them go back to the data that they had then, with
--force that one alone. What is left of newer data is kept.`,
		Example: "  twinkeel rollback --reason 'printing is broken'\n  twinkeel rollback --force --reason 'below the epoch, until the fix is out'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.Data != "keep" && r.Data != "restore" {
				return usage(fmt.Errorf("data: got %q, want keep or restore", r.Data))
			}
			if r.Force && r.Reason == "" {
				return usage(fmt.Errorf("force: goes below the security epoch, which needs a --reason for the history"))
			}
			return c.change(cmd, r)
		},
	}
	cmd.Flags().StringVar(&r.Reason, "reason", "", "`TEXT` for the history")
	cmd.Flags().StringVar(&r.Data, "data", "keep", "what becomes of applications' data: keep or restore")
	cmd.Flags().BoolVar(&r.NoReboot, "no-reboot", false, "leave the reboot to somebody else")
	cmd.Flags().BoolVar(&r.Force, "force", false, "even below the security epoch; needs --reason")
	return cmd
}

func (c *cli) hold() *cobra.Command {
	r := agent.Request{Verb: agent.VerbHold}
	var until string
	cmd := &cobra.Command{
		Use:     "hold",
		Short:   "Install nothing by itself for now",
		Long:    "Install nothing by itself for now. An update that was about to be armed waits, too;\na trial that only waits for its reboot is left by 'twinkeel rollback'.",
		Example: "  twinkeel hold --reason 'end of quarter'\n  twinkeel hold --until 2026-12-01\n  twinkeel hold --until 48h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if until != "" {
				t, err := parseUntil(until, time.Now())
				if err != nil {
					return usage(err)
				}
				r.Until = t
			}
			return c.change(cmd, r)
		},
	}
	cmd.Flags().StringVar(&until, "until", "", "`TIME` at which the hold ends: a date, a date and time, or a duration")
	cmd.Flags().StringVar(&r.Reason, "reason", "", "`TEXT` for status and history")
	return cmd
}

// parseUntil reads RFC 3339, "2006-01-02" and "2006-01-02 15:04" in local time, or a
// duration from now.
func parseUntil(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC(), nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t.UTC(), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	return time.Time{}, fmt.Errorf("until: %w", errTime(s))
}

func errTime(s string) error {
	return fmt.Errorf(`got %.40q, want "2026-12-01", "2026-12-01 08:00", RFC 3339, or a duration such as "48h"`, s)
}

func (c *cli) unhold() *cobra.Command {
	return &cobra.Command{
		Use:     "unhold",
		Short:   "End a hold",
		Example: "  twinkeel unhold",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.change(cmd, agent.Request{Verb: agent.VerbUnhold})
		},
	}
}

func (c *cli) undeny() *cobra.Command {
	return &cobra.Command{
		Use:     "undeny DIGEST",
		Short:   "Allow a deployment that failed here to be installed again",
		Long:    "Allow a deployment that failed here, or was left by hand, to be installed again. `twinkeel status` lists the digests.",
		Example: "  twinkeel undeny 3f1c…",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := release.ParseDigest(args[0])
			if err != nil {
				return usage(err)
			}
			return c.change(cmd, agent.Request{Verb: agent.VerbUndeny, Digest: d})
		},
	}
}

func (c *cli) trust() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Manage what this host trusts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(fmt.Errorf("trust: want a command: reset"))
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "reset",
		Short: "Start trust anew from the factory root",
		Long: `Forget all trust metadata and start anew from the factory root. Until the next check
this host cannot tell an old repository from a new one: do it only when the
publisher asks for it.`,
		Example: "  twinkeel trust reset",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.change(cmd, agent.Request{Verb: agent.VerbTrustReset})
		},
	})
	return cmd
}

func (c *cli) initHost() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Adopt the factory slot as committed",
		Long: `Adopt the slot that runs as committed, and make the state directory if need be. Run
again, it changes nothing. With the factory's manifest the slot is compared with it,
and the first update can be a delta.`,
		Example: "  twinkeel init --manifest /usr/lib/twinkeel/manifest.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := agent.Request{Verb: agent.VerbInit}
			if file != "" {
				b, err := readManifest(file)
				if err != nil {
					return failed(err)
				}
				r.Factory = b
			}
			return c.change(cmd, r)
		},
	}
	cmd.Flags().StringVar(&file, "manifest", "", "`FILE` with the manifest of the factory slot")
	return cmd
}

func readManifest(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, release.MaxManifestSize+1))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if len(b) > release.MaxManifestSize {
		return nil, fmt.Errorf("manifest %s: got more than %d bytes", path, release.MaxManifestSize)
	}
	return b, nil
}
