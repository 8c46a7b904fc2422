package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/twinkeel/twinkeel/agent/control"
	"github.com/twinkeel/twinkeel/agent/writer"
)

// man writes the manual pages; a package's build runs it.
func (c *cli) man(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages into a directory",
		Hidden:  true,
		Args:    cobra.ExactArgs(1),
		Example: "  twinkeel man /usr/local/share/man/man1",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return exitError{control.ExitFailed, err}
			}
			root.DisableAutoGenTag = true
			// The same pages from the same source: no date of today.
			day := time.Unix(0, 0).UTC()
			header := &doc.GenManHeader{Section: "1", Source: "twinkeel " + writer.Version, Manual: "twinkeel", Date: &day}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return exitError{control.ExitFailed, fmt.Errorf("manual pages: %w", err)}
			}
			return nil
		},
	}
}
