package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/server"
)

func newRenewCommand(t *terminal) *cobra.Command {
	var in server.RenewOptions
	var propose string
	var check bool
	cmd := &cobra.Command{
		Use:   "renew DIR",
		Short: "Sign timestamp, snapshot and directives anew, before they expire",
		Long: `Renew signs the timestamp, and the snapshot and directives when half their life is over.
It needs no passphrase: run it every hour, from a timer. It warns when roles of people
come close to their end; --role renews those, with their keys.

--check signs nothing and needs no key: it fails if an online role has lived more than half
its life, so that the renewal has stopped, or if a role of people ends soon. Run it from
another timer, or from monitoring.

  twinkeel-server renew site
  twinkeel-server renew site --check
  twinkeel-server renew site --role targets --role os-stable
  twinkeel-server renew site --all --skip 1000        after a restore from an old backup` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Propose = propose != ""
			if in.Propose && len(in.Roles) == 0 {
				return usagef("--propose needs --role")
			}
			if check {
				site, err := server.OpenReadOnly(args[0], t.options())
				if err != nil {
					return err
				}
				return site.Check()
			}
			return t.on(args[0], func(site *server.Site) error {
				r, err := site.Renew(cmd.Context(), in)
				if err != nil {
					return err
				}
				return t.conclude(r.Proposal, propose, r, func() {
					for _, role := range r.Renewed {
						t.say("%-16s version %d, expires %s", role.Name, role.Version, role.Expires.Format(time.DateTime))
					}
					t.say("renew again before %s", r.Next.Format(time.DateTime))
					t.warn(r.Warnings)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&in.Roles, "role", nil, "role of people to renew as well: targets, os-CHANNEL (repeatable)")
	f.BoolVar(&in.All, "all", false, "all online roles, due or not")
	f.Int64Var(&in.Skip, "skip", 0, "raise version numbers by this many, after a restore")
	f.BoolVar(&check, "check", false, "only look, and fail if something has to be renewed")
	f.StringVar(&propose, "propose", "", "write a proposal of the roles to this file")
	return cmd
}

func newStatusCommand(t *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "status DIR",
		Short: "Show roles, channels and releases",
		Long:  "Status shows who signs what until when, and what each channel holds and offers.\n\n  twinkeel-server status site --json" + exitStatus,
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			site, err := server.OpenReadOnly(args[0], t.options())
			if err != nil {
				return err
			}
			r, err := site.Status()
			if err != nil {
				return err
			}
			return t.answer(r, func() { t.status(r) })
		},
	}
}

func (t *terminal) status(r *server.StatusResult) {
	t.say("role              version  signatures  expires")
	for _, role := range r.Roles {
		t.say("%-16s  %7d  %4d of %-3d  %s", role.Name, role.Version, role.Threshold, len(role.Keys), role.Expires.Format(time.DateTime))
	}
	if l := r.Log; l != nil {
		t.say("release log %s, %d entries, hosts: %s", l.Origin, l.Size, l.Mode)
	}
	for _, c := range r.Channels {
		t.say("")
		t.say("channel %s", c.Name)
		t.offered(c.Directive, nil, nil)
		for i, rel := range c.Releases {
			if i == 20 {
				t.say("  and %d older ones", len(c.Releases)-i)
				break
			}
			t.say("  %-16s %s", rel.Version, rel.Compatible)
		}
		for _, d := range c.Apps {
			t.offeredApp(d)
		}
		t.withdrawn(c.Withdrawn)
	}
	for _, p := range r.Publishers {
		t.say("")
		t.say("publisher %s", p.Name)
		for _, a := range p.Apps {
			t.say("  %-16s %s", a.Name, a.Version)
		}
		t.withdrawn(p.Withdrawn)
	}
	t.warn(r.Warnings)
}

func (t *terminal) withdrawn(list []server.WithdrawnStatus) {
	for _, w := range list {
		t.say("  withdrawn: %s on %s: %s", w.Target, w.Time.Format(time.DateOnly), w.Reason)
	}
}

func newVerifyCommand(t *terminal) *cobra.Command {
	var quick bool
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Check the repository as a host would, and all payloads",
		Long: `Verify reads the whole repository with the client that hosts run, and compares every
payload with its digest.

  twinkeel-server verify site` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			site, err := server.OpenReadOnly(args[0], t.options())
			if err != nil {
				return err
			}
			r, err := site.Verify(cmd.Context(), quick)
			if err != nil {
				return err
			}
			return errors.Join(t.verified(r), r.Damaged())
		},
	}
	cmd.Flags().BoolVar(&quick, "quick", false, "compare only the sizes of payloads")
	return cmd
}

func (t *terminal) verified(r *server.VerifyResult) error {
	return t.answer(r, func() {
		t.warn(r.Warnings)
		if len(r.Problems) == 0 {
			t.say("%d releases and %d payloads (%s) verify", r.Releases, r.Payloads, size(r.Bytes))
		}
	})
}

func newExportCommand(t *terminal) *cobra.Command {
	in := server.ExportOptions{Life: server.DefaultBundleLife}
	cmd := &cobra.Command{
		Use:   "export DIR --channel C -o BUNDLE",
		Short: "Write a release into one file, for hosts without a network",
		Long: `Export writes what a host needs to install one release of a channel into a tar archive:
signed metadata, the manifest, the payloads. Hosts check it as they check a server. The
bundle's timestamp, snapshot and directive are signed for --expires and never served.

  twinkeel-server export site --channel stable -o stable.bundle
  twinkeel-server export site --channel stable --version 1.4 --full -o 1.4.bundle` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.on(args[0], func(site *server.Site) error {
				r, err := site.Export(cmd.Context(), in)
				if err != nil {
					return err
				}
				return t.answer(r, func() {
					t.say("exported %s of %s for %s: %d payloads, %s", r.Version, r.Channel, joinWords(r.Machines), r.Payloads, size(r.Bytes))
					t.say("hosts accept it until %s, when %s expires", r.Expires.Format(time.DateTime), r.Limit)
					t.warn(r.Warnings)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Channel, "channel", "", "the channel")
	f.Var(versionValue{&in.Version}, "version", "release; default: what the channel offers")
	f.StringVar(&in.Compatible, "compatible", "", "only for these machines")
	f.Var(daysValue{&in.Life}, "expires", "how long hosts accept the bundle, at most 90d")
	f.BoolVar(&in.FullOnly, "full", false, "without deltas")
	f.StringVarP(&in.Output, "output", "o", "", "file to write")
	require(cmd, "channel", "output")
	return cmd
}

func newBackupCommand(t *terminal) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "backup DIR -o FILE",
		Short: "Write the site into one file",
		Long: `Backup writes keys, settings and repository into a tar archive of mode 0600: it holds the
server's own keys in the clear. The spare root key is not in it; its place is elsewhere.

  twinkeel-server backup site -o site.tar` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.on(args[0], func(site *server.Site) error {
				r, err := site.Backup(cmd.Context(), output)
				if err != nil {
					return err
				}
				return t.answer(r, func() { t.say("backed up %d files, %s", r.Files, size(r.Bytes)) })
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write")
	require(cmd, "output")
	return cmd
}

func newRestoreCommand(t *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE DIR",
		Short: "Unpack a backup into an empty directory and verify it",
		Long: `Restore unpacks a backup into DIR and verifies all of it. Hosts that have seen newer
metadata than the backup holds refuse it until the version numbers have passed theirs:
renew DIR --all --skip 1000 --role targets --role os-CHANNEL...

  twinkeel-server restore site.tar site` + exitStatus,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := server.Restore(cmd.Context(), args[0], args[1], t.options())
			if err != nil {
				return err
			}
			if err := errors.Join(t.verified(r), r.Damaged()); err != nil {
				return err
			}
			t.hint("if anything was published after the backup: renew %s --all --skip 1000 --role targets --role os-CHANNEL", args[1])
			return nil
		},
	}
}
