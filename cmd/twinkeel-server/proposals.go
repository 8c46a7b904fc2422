package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/server"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

func joinWords(words []string) string { return strings.Join(words, ", ") }

func newRootKeysCommand(t *terminal) *cobra.Command {
	var role, pub, id, name, propose string
	var threshold int
	cmd := &cobra.Command{
		Use:   "root DIR add-key|remove-key|replace-key|threshold|renew --propose FILE",
		Short: "Propose a change of who may sign",
		Long: `Root writes a proposal that changes which keys sign for a role, or how many of them it
takes. The proposal then collects signatures (proposal sign) and is published by
proposal apply, which first makes sure that everything published still verifies.

The keys of root, targets, snapshot and timestamp stand in root; those of os-CHANNEL and
fleet-CHANNEL in targets.

  twinkeel-server root site add-key --role os-stable --public anna.pub --name anna --propose P
  twinkeel-server root site remove-key --role root --id 1f3a90 --propose P
  twinkeel-server root site replace-key --role timestamp --id 77ab02 --public new.pub --propose P
  twinkeel-server root site threshold --role os-stable --to 2 --propose P
  twinkeel-server root site renew --propose P` + exitStatus,
		Args:      cobra.ExactArgs(2),
		ValidArgs: []string{"add-key", "remove-key", "replace-key", "threshold", "renew"},
		RunE: func(_ *cobra.Command, args []string) error {
			c := publisher.AuthorityChange{Role: role, Name: name}
			add, remove := args[1] == "add-key" || args[1] == "replace-key", args[1] == "remove-key" || args[1] == "replace-key"
			if add {
				if pub == "" {
					return usagef("%s: flag --public is missing", args[1])
				}
				key, err := publisher.ReadPublic(pub)
				if err != nil {
					return err
				}
				if name == "" {
					c.Name = strings.TrimSuffix(filepath.Base(pub), ".pub")
				}
				c.Add, c.Threshold = &key, threshold
			}
			if remove {
				if len(id) < 6 {
					return usagef("%s: want --id with at least 6 digits of the key id", args[1])
				}
				c.Remove, c.Threshold = id, threshold
			}
			switch args[1] {
			case "add-key", "remove-key", "replace-key":
			case "threshold":
				if threshold < 1 {
					return usagef("threshold: want --to with a number of keys")
				}
				c.Threshold = threshold
			case "renew":
			default:
				return usagef("got %q, want add-key, remove-key, replace-key, threshold or renew", args[1])
			}
			return t.on(args[0], func(site *server.Site) error {
				p, err := proposeAuthority(site, args[1] == "renew", c)
				if err != nil {
					return err
				}
				return t.saveProposal(p, propose)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", publisher.RoleRoot, "role whose keys change")
	f.StringVar(&pub, "public", "", "public key file to add")
	f.StringVar(&name, "name", "", "what to call the key; default: the file's name")
	f.StringVar(&id, "id", "", "key id to remove, or its beginning")
	f.IntVar(&threshold, "to", 0, "signatures needed from now on")
	f.StringVar(&propose, "propose", "", "file to write the proposal to")
	require(cmd, "propose")
	return cmd
}

func proposeAuthority(site *server.Site, renew bool, c publisher.AuthorityChange) (*publisher.Proposal, error) {
	if renew {
		return site.RenewRoot()
	}
	return site.Authority(c)
}

// proposalView is what `proposal show --json` prints.
type proposalView struct {
	Format       int                     `json:"format"`
	File         string                  `json:"file"`
	Complete     bool                    `json:"complete"`
	Changes      []string                `json:"changes"`
	Requirements []publisher.Requirement `json:"requirements"`
}

func (t *terminal) showProposal(p *publisher.Proposal, path string) error {
	view := proposalView{Format: 1, File: path, Complete: true}
	var err error
	if view.Changes, err = p.Describe(); err != nil {
		return err
	}
	if view.Requirements, err = p.Requirements(); err != nil {
		return err
	}
	for _, r := range view.Requirements {
		view.Complete = view.Complete && r.Reached
	}
	return t.answer(view, func() {
		t.say("proposal %s", path)
		for _, line := range view.Changes {
			t.say("  %s", line)
		}
		for _, r := range view.Requirements {
			state := "not reached"
			if r.Reached {
				state = "reached"
			}
			t.say("signatures for %s, demanded by %s: %d of %d, %s", r.Role, r.By, len(r.Signed), r.Threshold, state)
			for _, k := range r.Signed {
				t.say("  signed   %s %s", k.ID[:12], k.Name)
			}
			for _, k := range r.Missing {
				t.say("  missing  %s %s", k.ID[:12], k.Name)
			}
		}
	})
}

func readProposal(path string) (*publisher.Proposal, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, publisher.MaxProposal+1))
	if err != nil {
		return nil, err
	}
	p, err := publisher.ParseProposal(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

func newProposalCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proposal",
		Short: "Show, sign and apply changes that need several signatures",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("want: proposal show|sign|apply FILE")
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "show FILE",
			Short: "Say in words what a proposal changes, who has signed and who is missing",
			Long: `Show works out from the documents in the file what they change. It needs no site and no
key. Compare the SHA-256 of the root with one that you trust.

  twinkeel-server proposal show change.json` + exitStatus,
			Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				p, err := readProposal(args[0])
				if err != nil {
					return err
				}
				return t.showProposal(p, args[0])
			},
		},
		&cobra.Command{
			Use:   "sign FILE --key KEY.pem",
			Short: "Add a signature to a proposal",
			Long: `Sign adds the signatures of the given keys. It may be done on any machine, also on
copies of the file at the same time.

  twinkeel-server proposal sign change.json --key anna.pem` + exitStatus,
			Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return t.signProposal(args[0]) },
		},
		newApplyCommand(t),
	)
	return cmd
}

func (t *terminal) signProposal(path string) error {
	if len(t.keys) == 0 {
		return usagef("sign: flag --key is missing")
	}
	p, err := readProposal(path)
	if err != nil {
		return err
	}
	ring, err := publisher.OpenRing(once(t.passphrase))
	if err != nil {
		return err
	}
	ring.Plugins = t.plugins()
	for _, file := range t.keys {
		key, err := ring.Add(file)
		if err != nil {
			return err
		}
		if err := p.Sign(key); err != nil {
			return err
		}
	}
	b, err := p.Encode()
	if err != nil {
		return err
	}
	// The old file stays until the new one is whole: it may be the only copy of
	// signatures that were carried a long way.
	temp := path + ".tmp"
	if err := os.WriteFile(temp, b, 0o644); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return t.showProposal(p, path)
}

func newApplyCommand(t *terminal) *cobra.Command {
	dir := "."
	cmd := &cobra.Command{
		Use:   "apply FILE [COPY...] --dir DIR",
		Short: "Publish a proposal that has all its signatures",
		Long: `Apply publishes a proposal once every threshold is reached: for a root, that of the root
in force and its own. Signatures on copies of the file are put together. It refuses a
proposal that was made for another state of the repository, and a change after which
something that is published would not verify.

  twinkeel-server proposal apply change.json --dir site
  twinkeel-server proposal apply change.json from-anna.json from-ben.json --dir site` + exitStatus,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := readProposal(args[0])
			if err != nil {
				return err
			}
			for _, path := range args[1:] {
				q, err := readProposal(path)
				if err != nil {
					return err
				}
				if err := p.Merge(q); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
			}
			return t.on(dir, func(site *server.Site) error {
				r, err := site.Apply(cmd.Context(), p)
				if err != nil {
					return err
				}
				return t.answer(r, func() {
					t.say("applied %s", args[0])
					for _, line := range r.Changes {
						t.say("  %s", line)
					}
					t.warn(r.Warnings)
				})
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", dir, "the site")
	return cmd
}
