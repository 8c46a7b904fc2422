package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/server"
)

func newAppRolloutCommand(t *terminal) *cobra.Command {
	var in server.AppRolloutOptions
	var pause, resume bool
	var notBefore string
	cmd := &cobra.Command{
		Use:   "rollout DIR [PUBLISHER/]NAME --channel C --version V|--percent N|--pause|--resume|--drop",
		Short: "Release or hold an application apart from the OS",
		Long: `Rollout changes the directive that a channel has for one application. With one, hosts run
the version that it offers once that is newer than what their OS release names; --pause holds
them where they are; --drop removes it, and hosts go by their OS release again. It takes the
server's own keys only.

  twinkeel-server app rollout site web --channel stable --version 2.3.1 --percent 5
  twinkeel-server app rollout site web --channel stable --percent 100
  twinkeel-server app rollout site acme/web --channel stable --drop` + exitStatus,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.App = args[1]
			if pause || resume {
				in.Paused = &pause
			}
			if notBefore != "" {
				at, err := time.Parse(time.RFC3339, notBefore)
				if err != nil {
					return usagef("--not-before: got %q, want a time such as 2026-12-01T02:00:00Z", notBefore)
				}
				in.NotBefore = &at
			}
			if in.Permille == nil && in.Paused == nil && in.NotBefore == nil && in.Version.IsZero() && !in.Drop {
				return usagef("nothing to change: use --version, --percent, --pause, --resume, --not-before or --drop")
			}
			return t.on(args[0], func(site *server.Site) error {
				r, err := site.RolloutApp(cmd.Context(), in)
				if err != nil {
					return err
				}
				return t.answer(r, func() {
					t.offeredApp(r.Directive)
					t.warn(r.Warnings)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Channel, "channel", "", "the channel")
	f.Var(versionValue{&in.Version}, "version", "release to offer")
	f.Var(percentValue{&in.Permille}, "percent", "share of hosts, 0 to 100")
	f.BoolVar(&pause, "pause", false, "hold it: hosts stay at what they run")
	f.BoolVar(&resume, "resume", false, "go on")
	f.BoolVar(&in.Drop, "drop", false, "remove the directive")
	f.StringVar(&notBefore, "not-before", "", "no host installs before this time")
	cmd.MarkFlagsMutuallyExclusive("pause", "resume", "drop")
	cmd.MarkFlagsMutuallyExclusive("version", "drop")
	require(cmd, "channel")
	return cmd
}

func newAppWithdrawCommand(t *terminal) *cobra.Command {
	var in server.AppWithdrawOptions
	var propose string
	cmd := &cobra.Command{
		Use:   "withdraw DIR PUBLISHER/NAME --version V --reason T",
		Short: "Take a release of an application back",
		Long: `Withdraw takes a release of an application back, for good: no host can install it from
then on, and its version is not used again. Channels that offer it apart from the OS offer
the release before instead, or hold. Releases of the OS that name it are told of: withdraw
those, too, or publish ones that name another.

  twinkeel-server app withdraw site acme/web --version 2.3.1 --reason "leaks sessions"` + exitStatus,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ok bool
			if in.Publisher, in.Name, ok = strings.Cut(args[1], "/"); !ok {
				return usagef("got %q, want PUBLISHER/NAME", args[1])
			}
			in.Propose = propose != ""
			return t.on(args[0], func(site *server.Site) error {
				r, err := site.WithdrawApp(cmd.Context(), in)
				if err != nil {
					return err
				}
				return t.conclude(r.Proposal, propose, r, func() {
					t.say("withdrew app %s/%s %s", in.Publisher, in.Name, in.Version)
					for _, d := range r.Directives {
						t.offeredApp(d)
					}
					t.warn(r.Warnings)
				})
			})
		},
	}
	f := cmd.Flags()
	f.Var(versionValue{&in.Version}, "version", "the release")
	f.StringVar(&in.Reason, "reason", "", "why; it is signed and kept")
	f.BoolVar(&in.ComeDown, "come-down", false, "ask hosts that run it to go to the release before")
	proposeFlag(cmd, &propose)
	require(cmd, "version", "reason")
	return cmd
}
