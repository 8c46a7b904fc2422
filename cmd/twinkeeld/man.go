//go:build manpages

package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/twinkeel/twinkeel/agent/control"
	"github.com/twinkeel/twinkeel/agent/writer"
)

// addMan adds the command that writes the manual page. Only the build of a package has
// it: what formats text is of no use in a daemon that runs as root.
func addMan(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual page into a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return exitError{control.ExitFailed, err}
			}
			root.DisableAutoGenTag = true
			day := time.Unix(0, 0).UTC()
			return doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "twinkeel " + writer.Version, Manual: "twinkeel", Date: &day}, args[0])
		},
	})
}
