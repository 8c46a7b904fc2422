package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newDocsCommand writes manual pages from the same definitions as the help texts.
func newDocsCommand(t *terminal) *cobra.Command {
	return &cobra.Command{
		Use:    "docs DIR",
		Short:  "Write manual pages",
		Long:   "Docs writes one manual page for each command into DIR.\n\n  twinkeel-server docs man" + exitStatus,
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return doc.GenManTree(cmd.Root(), &doc.GenManHeader{Section: "1", Source: "twinkeel"}, args[0])
		},
	}
}
