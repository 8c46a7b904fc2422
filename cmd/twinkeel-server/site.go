package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/server"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// on opens the site in dir, does do to it and closes it. What can be done about an error
// is said beside it.
func (t *terminal) on(dir string, do func(*server.Site) error) error {
	site, err := server.Open(dir, t.options())
	if errors.Is(err, fs.ErrNotExist) {
		t.hint("%s is not a site; name one, or make one with: twinkeel-server init DIR", dir)
	}
	if err != nil {
		return err
	}
	defer site.Close()
	err = do(site)
	var threshold *publisher.ThresholdError
	switch {
	case errors.As(err, &threshold) && len(threshold.Locked) > 0:
		t.hint("the passphrase does not open the keys that are here")
	case errors.As(err, &threshold):
		t.hint("name a key file with --key, or let its keeper sign: --propose FILE")
	}
	return err
}

// proposeFlag is the flag of whatever can be proposed: its file is that of conclude.
func proposeFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "propose", "", "write a proposal to this file instead of publishing")
}

// conclude writes what is to be signed by others to a file, or, if there is nothing of the
// kind, says what was done.
func (t *terminal) conclude(p *publisher.Proposal, file string, result any, say func()) error {
	if p != nil {
		return t.saveProposal(p, file)
	}
	return t.answer(result, say)
}

// saveProposal writes a proposal to a new file.
func (t *terminal) saveProposal(p *publisher.Proposal, path string) error {
	b, err := p.Encode()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return t.showProposal(p, path)
}
