package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/server"
	"github.com/twinkeel/twinkeel/signing/publisher"
	"github.com/twinkeel/twinkeel/signing/translog"
)

func newInitCommand(t *terminal) *cobra.Command {
	var propose string
	in := server.InitOptions{Profile: server.Solo, Kind: publisher.Ed25519, Lifetimes: server.DefaultLifetimes()}
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a site: keys, the first root, an empty repository",
		Long: `Init makes all keys, signs the first root and an empty repository in DIR, and prints a
recovery sheet. DIR must not exist, or be empty.

Profile solo is for one person: one root key and a spare one, of which either suffices,
and one key each for targets and for releases. Give --spare a directory on another
medium; otherwise move DIR/keys/spare there yourself.

Profile company makes five root keys (3 needed), three for targets (2), three for releases
(2 for channel stable, 1 for others) and one for the build system (channel edge). Hand
them out, each with its .pub file, and remove them from DIR/keys; what then needs
signatures is carried by proposal files.

With --public no key of a person is made here. Each of them runs "key create" on a machine
of their own and hands over the .pub file; init writes a proposal that begins the
repository, which all of them sign (proposal sign) before proposal apply publishes it.
The names that a profile wants are those above: root-1.pub, targets-1.pub, release-1.pub,
ci.pub; for solo root.pub, root-spare.pub, targets.pub, release.pub.

The keys of people are encrypted with the passphrase. Those for snapshot, timestamp and
directives stay readable, for the server alone.

  twinkeel-server init site --spare /media/stick/spare
  twinkeel-server init site --profile company --channel stable --channel edge
  twinkeel-server init site --profile company --public collected --propose first.json` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (in.Public == "") != (propose == "") {
				return usagef("--public and --propose go together")
			}
			o := t.options()
			o.Passphrase = once(t.newPassphrase)
			r, err := server.Init(cmd.Context(), args[0], in, o)
			if err != nil {
				return err
			}
			return t.conclude(r.Proposal, propose, r, func() { t.recoverySheet(r) })
		},
	}
	f := cmd.Flags()
	f.StringVar((*string)(&in.Profile), "profile", string(in.Profile), "solo or company")
	f.StringArrayVar(&in.Channels, "channel", []string{"stable", "beta", "edge"}, "channel to make (repeatable)")
	f.StringVar((*string)(&in.Kind), "kind", string(in.Kind), "kind of keys: ed25519 or p256")
	f.StringVar(&in.Spare, "spare", "", "directory for the spare root key (solo)")
	f.StringVar(&in.Public, "public", "", "directory with the public keys of people; with --propose")
	f.StringVar(&propose, "propose", "", "file to write the first proposal to; with --public")
	f.StringVar((*string)(&in.Log), "log", string(translog.Require), "what hosts demand of the release log: require, warn or off")
	f.Var(daysValue{(*time.Duration)(&in.Lifetimes.Timestamp)}, "timestamp-life", "how long hosts trust a timestamp: 1h to 30d")
	f.Var(daysValue{(*time.Duration)(&in.Lifetimes.Releases)}, "releases-life", "how long hosts trust a channel's list of releases")
	return cmd
}

// once asks for a passphrase one time, for a command that needs it in several places.
func once(ask publisher.Passphrase) publisher.Passphrase {
	var pass []byte
	return func() (_ []byte, err error) {
		if pass == nil {
			pass, err = ask()
		}
		return pass, err
	}
}

func (t *terminal) recoverySheet(r *server.InitResult) {
	t.say("RECOVERY SHEET of the site %s, profile %s. Print it and keep it with the spare key.", r.Dir, r.Profile)
	t.say("")
	t.say("Factory root, to be built into every image as /etc/twinkeel/root.json:")
	t.say("  %s", r.FactoryRoot)
	t.say("  SHA-256 %s", r.RootSHA256)
	t.say("")
	t.say("Keys:")
	for _, k := range r.Keys {
		where := "encrypted"
		if !k.Encrypted {
			where = "readable by the server, mode 0600"
		}
		t.say("  %-12s %s  %s", k.Name, k.ID, where)
		t.say("  %-12s %s", "", k.Path)
		t.say("  %-12s signs %s", "", joinWords(k.Roles))
	}
	t.say("")
	t.say("If a key is lost:   root %s remove-key and add-key, signed by another root key", r.Dir)
	t.say("If a key is stolen: the same, at once; hosts follow the new root")
	t.say("If all root keys are lost, hosts can never be given a new root: keep the spare apart.")
	t.say("Back up with:       backup %s -o FILE", r.Dir)
	t.say("Every hour:         renew %s", r.Dir)
	if r.Profile == server.Solo && !r.SpareMoved {
		t.complain("warning: the spare root key lies next to the first one, in %s", r.Spare)
		t.hint("move that directory to another medium now, and lock it away")
	}
	if r.Profile == server.Company {
		t.complain("warning: all keys lie in one place, %s/keys", r.Dir)
		t.hint("hand each NAME.pem with its NAME.pub to its keeper and remove the .pem here")
	}
}
