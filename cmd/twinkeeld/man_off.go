//go:build !manpages

package main

import "github.com/spf13/cobra"

// addMan adds nothing: see the file with the tag manpages.
func addMan(*cobra.Command) {}
