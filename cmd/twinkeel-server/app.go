package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/server"
	"github.com/twinkeel/twinkeel/server/appbuild"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

func newAppCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "app",
		Short: "Build, publish and withdraw applications",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("want: app build|publisher|publish|rollout|withdraw")
		},
	}
	cmd.AddCommand(newAppBuildCommand(t), newAppPublisherCommand(t), newAppPublishCommand(t), newAppRolloutCommand(t), newAppWithdrawCommand(t))
	return cmd
}

func newAppPublisherCommand(t *terminal) *cobra.Command {
	in := server.AddPublisherOptions{Names: map[string]string{}}
	var by []string
	var propose string
	cmd := &cobra.Command{
		Use:   "publisher DIR NAME",
		Short: "Add a publisher of applications",
		Long: `Publisher delegates all applications below NAME/ to a role of its own, app-NAME: with the
keys and the threshold of a channel's releases (--like), or with the keys in --by. It takes
the keys of targets and, as the role begins with a signed, empty list, those of the role.
Later changes: root DIR add-key --role app-NAME.

  twinkeel-server app publisher site acme --like stable
  twinkeel-server app publisher site acme --by anna.pub --by ben.pub --threshold 2 --propose P` + exitStatus,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Name, in.Propose = args[1], propose != ""
			for _, path := range by {
				key, err := publisher.ReadPublic(path)
				if err != nil {
					return err
				}
				in.By = append(in.By, key)
				in.Names[key.ID] = strings.TrimSuffix(filepath.Base(path), ".pub")
			}
			return t.on(args[0], func(site *server.Site) error {
				p, err := site.AddPublisher(cmd.Context(), in)
				if err != nil {
					return err
				}
				result := struct {
					Format    int    `json:"format"`
					Publisher string `json:"publisher"`
				}{1, in.Name}
				return t.conclude(p, propose, result, func() { t.say("added publisher %s", in.Name) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Like, "like", "stable", "channel whose keys sign the applications")
	f.StringArrayVar(&by, "by", nil, "public key that signs them instead (repeatable)")
	f.IntVar(&in.Threshold, "threshold", 1, "with --by: how many of the keys have to sign")
	proposeFlag(cmd, &propose)
	cmd.MarkFlagsMutuallyExclusive("like", "by")
	return cmd
}

func newAppPublishCommand(t *terminal) *cobra.Command {
	var in server.AppPublishOptions
	var propose string
	cmd := &cobra.Command{
		Use:   "publish DIR DRAFT.json",
		Short: "Publish a release of an application",
		Long: `Publish makes a release of what app build wrote: DRAFT.json, and the EROFS image of the
same name beside it. As with a release of the OS, a full container and deltas from earlier
releases are made and verified by applying them before anything is signed, by the role of
the application's publisher.

With --channel the application is then offered to the hosts of a channel by itself, to all
of them or to the share that --percent gives. Without it, it waits for a release of the OS
that names it: publish --app NAME=VERSION.

  twinkeel-server app publish site build/web-2.3.1.json --channel stable --percent 5
  twinkeel-server app publish site build/db-16.2.json --propose db-16.2.proposal` + exitStatus,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Propose = propose != ""
			draft, err := os.ReadFile(args[1])
			if err != nil {
				return err
			}
			if in.Draft, err = appbuild.ReadDraft(draft); err != nil {
				return err
			}
			if in.Image == "" {
				in.Image = strings.TrimSuffix(args[1], ".json") + ".erofs"
			}
			return t.on(args[0], func(site *server.Site) error {
				r, err := site.PublishApp(cmd.Context(), in)
				if err != nil {
					return err
				}
				return t.conclude(r.Proposal, propose, r, func() { t.publishedApp(r) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Image, "image", "", "the EROFS image; default: DRAFT.erofs")
	f.StringArrayVar(&in.Channels, "channel", nil, "offer it in this channel (repeatable)")
	f.Var(versionsValue{&in.From}, "from", "release that a delta starts from (repeatable)")
	f.IntVar(&in.Deltas, "deltas", 3, "make deltas from this many of the newest releases")
	f.Int64Var(&in.BlocksFrom, "blocks-from", server.BlocksFrom, "make a block map of images of at least `BYTES`; -1: of none")
	f.Uint64Var(&in.Attempt, "attempt", 0, "raise it to offer bits again that hosts have refused")
	proposeFlag(cmd, &propose)
	rolloutFlags(cmd, &in.Rollout)
	return cmd
}

func (t *terminal) publishedApp(r *server.AppPublishResult) {
	t.say("published app %s/%s %s", r.Publisher, r.Name, r.Version)
	t.say("  image %10s   full %10s   digest %s", size(r.Image.Size), size(r.Image.Bytes), r.Digest)
	t.routes(r.Routes)
	for _, n := range r.Notes {
		t.say("  note: %s", n)
	}
	for _, d := range r.Directives {
		t.offeredApp(d)
	}
	t.warn(r.Warnings)
}

// offeredApp says what the directive of an application says.
func (t *terminal) offeredApp(d *release.AppDirective) {
	switch {
	case d == nil:
		t.say("  hosts go by what their OS release names")
	case d.Paused:
		t.say("  %s holds app %s/%s: %s is offered to nobody", d.Channel, d.Publisher, d.Name, d.Version)
	default:
		t.say("  %s offers app %s/%s %s to %g %% of hosts", d.Channel, d.Publisher, d.Name, d.Version, float64(d.Permille)/10)
	}
}
