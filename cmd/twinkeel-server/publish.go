package main

import (
	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/server"
)

// rolloutFlags are shared by commands that offer a release.
func rolloutFlags(cmd *cobra.Command, r *server.RolloutStart) {
	cmd.Flags().Var(percentValue{&r.Permille}, "percent", "share of hosts that get it at first")
	cmd.Flags().BoolVar(&r.Hold, "no-rollout", false, "sign the release, but offer it to nobody yet")
	cmd.MarkFlagsMutuallyExclusive("percent", "no-rollout")
}

func newPublishCommand(t *terminal) *cobra.Command {
	in := server.PublishOptions{Images: map[string]string{}, Apps: map[string]release.Version{}, Meta: map[string]string{}}
	var propose string
	minUpdater := "0.1.0"
	cmd := &cobra.Command{
		Use:   "publish DIR --channel C --version V --compatible X --image NAME=FILE...",
		Short: "Publish a release",
		Long: `Publish makes a release from images: a full container of each and deltas from earlier
releases, every one of them verified by applying it. Only then is the release signed and,
in one step, put into the repository. A run that is interrupted leaves the repository as it
was; running it again takes up the payloads that are finished.

The channel's directive then offers the release to all hosts, or to the share that
--percent gives.

Deltas start from the newest --deltas releases and from every --from. Old images are
unpacked from the repository; only the new ones are needed here.

--app names an application that belongs to the release: hosts switch to it, and back from
it, together with the OS. It has to be published already (app publish).

  twinkeel-server publish site --channel stable --version 2026.11.21.1 \
      --compatible example-amd64 --image root=root.img --image boot=boot.img
  twinkeel-server publish site --channel stable --version 1.4 --compatible example-amd64 \
      --image root=root.img --from 1.0 --percent 5 --json --passphrase-file pass
  twinkeel-server publish site --channel stable --version 1.4 --compatible example-amd64 \
      --image root=root.img --propose release-1.4.json      when others must sign, too` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if in.MinUpdater, err = release.ParseVersion(minUpdater); err != nil {
				return usagef("--min-updater: %w", err)
			}
			in.Propose = propose != ""
			return t.on(args[0], func(site *server.Site) error {
				r, err := site.Publish(cmd.Context(), in)
				if err != nil {
					return err
				}
				return t.conclude(r.Proposal, propose, r, func() { t.published(r) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Channel, "channel", "", "channel to publish in")
	f.Var(versionValue{&in.Version}, "version", "1 to 4 dotted integers")
	f.StringVar(&in.Compatible, "compatible", "", "machines that the images are made for")
	f.Var(pairsValue(in.Images), "image", "NAME=FILE (repeatable)")
	f.Var(appsValue(in.Apps), "app", "[PUBLISHER/]NAME=VERSION that belongs to the release (repeatable)")
	f.Var(versionsValue{&in.From}, "from", "release that a delta starts from (repeatable)")
	f.Int64Var(&in.BlocksFrom, "blocks-from", server.BlocksFrom, "make a block map of images of at least `BYTES`, for hosts that can use no delta; -1: of none")
	f.IntVar(&in.Deltas, "deltas", 3, "make deltas from this many of the newest releases")
	f.Uint64Var(&in.Epoch, "epoch", 0, "security epoch; default: that of the newest release, or 1")
	f.Uint64Var(&in.Attempt, "attempt", 0, "raise it to offer bits again that hosts have refused")
	f.StringVar(&minUpdater, "min-updater", minUpdater, "oldest updater that can install the release")
	f.Var(pairsValue(in.Meta), "meta", "KEY=VALUE to be shown with the release (repeatable)")
	proposeFlag(cmd, &propose)
	rolloutFlags(cmd, &in.Rollout)
	require(cmd, "channel", "version", "compatible", "image")
	return cmd
}

func (t *terminal) published(r *server.PublishResult) {
	t.say("published %s for %s in %s", r.Version, r.Compatible, r.Channel)
	for _, i := range r.Images {
		t.say("  image %-6s %10s   full %10s   root %s", i.Name, size(i.Size), size(i.Bytes), i.Root.Short())
		if i.Blocks > 0 {
			t.say("        %-6s block map %s, stored with its frames in %s", "", size(i.Map), size(i.Blocks))
		}
	}
	for _, a := range r.Apps {
		t.say("  app %s/%s %s   digest %s", a.Publisher, a.Name, a.Version, a.Digest.Short())
	}
	t.routes(r.Routes)
	t.offered(r.Directive, r.Notes, r.Warnings)
}

// routes says what hosts download.
func (t *terminal) routes(routes []server.Route) {
	if len(routes) > 0 {
		t.say("  a host that runs   downloads     of full    share   without a delta")
	}
	for _, route := range routes {
		without := "not known"
		if route.Blocks > 0 {
			without = size(route.Blocks)
		}
		t.say("  %-16s %11s %11s %7.2f%% %17s", route.From, size(route.Delta), size(route.Full), 100*route.Ratio, without)
	}
}

// offered says what a channel's directive says.
func (t *terminal) offered(d *release.Directive, notes, warnings []string) {
	for _, n := range notes {
		t.say("  note: %s", n)
	}
	switch {
	case d == nil:
		t.say("  the channel has no directive")
	case d.Paused:
		t.say("  %s offers %s to nobody: paused", d.Channel, d.Version)
	default:
		t.say("  %s offers %s to %g %% of hosts", d.Channel, d.Version, float64(d.Permille)/10)
	}
	t.warn(warnings)
}

// require makes flags compulsory.
func require(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic("internal error: " + err.Error())
		}
	}
}
