package main

import "github.com/spf13/cobra"

func newAppCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "app",
		Short: "Applications: build them from container images",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return usagef("want: app build") },
	}
	cmd.AddCommand(newAppBuildCommand(t))
	return cmd
}
