package main

import (
	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/server"
)

func newGCCommand(t *terminal) *cobra.Command {
	var in server.GCOptions
	var retire server.RetireOptions
	var propose string
	cmd := &cobra.Command{
		Use:   "gc DIR [--dry-run] [--keep N]",
		Short: "Remove what nothing has referred to for 30 days",
		Long: `Gc removes files that nothing has referred to for 30 days, counted from the first gc that
saw them so. It never removes a root, and removes nothing at all while the repository is
damaged.

With --keep it first retires releases: all but the newest N of each machine, what the
channel offers, and what is newer than that. Hosts that run a retired release still update
and go back as before. It takes the keys of the channel, or --propose.

  twinkeel-server gc site --dry-run
  twinkeel-server gc site --keep 50 --channel edge` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted := cmd.Flags().Changed("keep")
			switch {
			case !wanted && (propose != "" || retire.Channel != ""):
				return usagef("--propose and --channel go with --keep")
			case wanted && retire.Keep < server.MinKeep:
				return usagef("--keep: got %d, want at least %d", retire.Keep, server.MinKeep)
			}
			return t.on(args[0], func(site *server.Site) error {
				var retired *server.RetireResult
				if wanted {
					var err error
					retire.DryRun, retire.Propose = in.DryRun, propose != ""
					if retired, err = site.Retire(cmd.Context(), retire); err != nil {
						return err
					}
					if retired.Proposal != nil {
						return t.saveProposal(retired.Proposal, propose)
					}
				}
				r, err := site.GC(cmd.Context(), in)
				if err != nil {
					return err
				}
				return t.answer(struct {
					*server.GCResult
					Retired []string `json:"retired,omitempty"`
				}{r, names(retired)}, func() { t.collected(r, names(retired)) })
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&in.DryRun, "dry-run", false, "only say what would be removed")
	f.BoolVar(&in.Quick, "quick", false, "compare only the sizes of payloads, before removing")
	f.IntVar(&retire.Keep, "keep", 0, "first retire all but this many releases of each machine")
	f.StringVar(&retire.Channel, "channel", "", "with --keep: only in this channel")
	f.StringVar(&propose, "propose", "", "with --keep: write a proposal to this file and remove nothing")
	return cmd
}

func names(r *server.RetireResult) []string {
	if r == nil {
		return nil
	}
	return r.Retired
}

func (t *terminal) collected(r *server.GCResult, retired []string) {
	verb, did := "removed", "retired"
	if r.DryRun {
		verb, did = "would remove", "would retire"
	}
	for _, name := range retired {
		t.say("%s %s", did, name)
	}
	for _, path := range r.Removed {
		t.say("removed %s", path)
	}
	t.say("%s %d files, %s; %d files wait", verb, len(r.Removed), size(r.Bytes), len(r.Waiting))
}
