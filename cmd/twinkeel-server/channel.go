package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/server"
)

func newPromoteCommand(t *terminal) *cobra.Command {
	var in server.PromoteOptions
	var propose string
	cmd := &cobra.Command{
		Use:   "promote DIR --from C --to C --version V",
		Short: "Offer a release of one channel in another as well",
		Long: `Promote copies the manifest of a release into another channel, unchanged, and signs it
there. Payloads are shared, so nothing is made or moved.

  twinkeel-server promote site --from beta --to stable --version 1.4 --percent 10` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Propose = propose != ""
			return t.on(args[0], func(site *server.Site) error {
				r, err := site.Promote(cmd.Context(), in)
				if err != nil {
					return err
				}
				return t.conclude(r.Proposal, propose, r, func() {
					t.say("promoted %s from %s to %s", r.Version, r.From, r.To)
					t.offered(r.Directive, r.Notes, r.Warnings)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.From, "from", "", "channel that has the release")
	f.StringVar(&in.To, "to", "", "channel that gets it")
	f.Var(versionValue{&in.Version}, "version", "the release")
	f.StringVar(&in.Compatible, "compatible", "", "only for these machines")
	proposeFlag(cmd, &propose)
	rolloutFlags(cmd, &in.Rollout)
	require(cmd, "from", "to", "version")
	return cmd
}

func newWithdrawCommand(t *terminal) *cobra.Command {
	var in server.WithdrawOptions
	var propose string
	cmd := &cobra.Command{
		Use:   "withdraw DIR --channel C --version V --reason T",
		Short: "Take a release back",
		Long: `Withdraw takes a release out of a channel, for good: no host can install it from then on,
and its version is not used again. If the directive offers it, the newest release that is
left is offered instead; with --come-down, hosts that run the withdrawn release are asked
to go back to that one. Without one left, the channel is paused.

To halt a rollout at once, with the server's own key alone, use: rollout DIR --pause

  twinkeel-server withdraw site --channel stable --version 1.4 --reason "loses its network"` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Propose = propose != ""
			return t.on(args[0], func(site *server.Site) error {
				r, err := site.Withdraw(cmd.Context(), in)
				if err != nil {
					return err
				}
				return t.conclude(r.Proposal, propose, r, func() {
					t.say("withdrew %s from %s", r.Version, r.Channel)
					t.offered(r.Directive, nil, r.Warnings)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Channel, "channel", "", "the channel")
	f.Var(versionValue{&in.Version}, "version", "the release")
	f.StringVar(&in.Compatible, "compatible", "", "only for these machines")
	f.StringVar(&in.Reason, "reason", "", "why; it is signed and kept")
	f.BoolVar(&in.ComeDown, "come-down", false, "ask hosts that run it to go to the release before")
	proposeFlag(cmd, &propose)
	require(cmd, "channel", "version", "reason")
	return cmd
}

func newRolloutCommand(t *terminal) *cobra.Command {
	var in server.RolloutOptions
	var pause, resume bool
	var notBefore, pollInterval string
	cmd := &cobra.Command{
		Use:   "rollout DIR --channel C --percent N|--pause|--resume",
		Short: "Change how widely a channel's release is offered",
		Long: `Rollout changes the directive of a channel. It takes the server's own keys only. A host
that is within a share stays within every larger one.

  twinkeel-server rollout site --channel stable --percent 25
  twinkeel-server rollout site --channel stable --pause
  twinkeel-server rollout site --channel stable --version 1.4 --percent 0.5
  twinkeel-server rollout site --channel stable --not-before 2026-12-01T02:00:00Z` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if pause || resume {
				in.Paused = &pause
			}
			if cmd.Flags().Changed("poll-interval") {
				in.PollInterval = &pollInterval
			}
			if cmd.Flags().Changed("not-before") {
				at, err := time.Parse(time.RFC3339, notBefore)
				if err != nil {
					return usagef("--not-before: got %q, want a time such as 2026-12-01T02:00:00Z", notBefore)
				}
				in.NotBefore = &at
			}
			if in.Permille == nil && in.Paused == nil && in.NotBefore == nil && in.PollInterval == nil && in.Version.IsZero() {
				return usagef("nothing to change: use --percent, --pause, --resume, --version, --not-before or --poll-interval")
			}
			return t.on(args[0], func(site *server.Site) error {
				r, err := site.Rollout(cmd.Context(), in)
				if err != nil {
					return err
				}
				return t.answer(r, func() { t.offered(r.Directive, nil, r.Warnings) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Channel, "channel", "", "the channel")
	f.Var(versionValue{&in.Version}, "version", "release to offer")
	f.Var(percentValue{&in.Permille}, "percent", "share of hosts, 0 to 100")
	f.BoolVar(&pause, "pause", false, "offer nothing for now")
	f.BoolVar(&resume, "resume", false, "go on")
	f.StringVar(&notBefore, "not-before", "", "no host installs before this time")
	f.StringVar(&pollInterval, "poll-interval", "", "how often hosts ask, 1m to 168h; empty for their own choice")
	cmd.MarkFlagsMutuallyExclusive("pause", "resume")
	require(cmd, "channel")
	return cmd
}

func newChannelCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "channel",
		Short: "Add channels",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return usagef("want: channel add DIR NAME") },
	}
	var like, propose string
	add := &cobra.Command{
		Use:   "add DIR NAME --like C",
		Short: "Add a channel that the keys of another one sign",
		Long: `Add delegates a new channel, with the keys and thresholds of an existing one.

  twinkeel-server channel add site nightly --like edge` + exitStatus,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.on(args[0], func(site *server.Site) error {
				p, err := site.AddChannel(cmd.Context(), args[1], like, propose != "")
				if err != nil {
					return err
				}
				result := struct {
					Format  int    `json:"format"`
					Channel string `json:"channel"`
				}{1, args[1]}
				return t.conclude(p, propose, result, func() { t.say("added channel %s", args[1]) })
			})
		},
	}
	add.Flags().StringVar(&like, "like", "stable", "channel whose keys sign it")
	proposeFlag(add, &propose)
	cmd.AddCommand(add)
	return cmd
}
