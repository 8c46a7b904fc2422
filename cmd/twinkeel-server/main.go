package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/server"
)

// Exit codes. They never change their meaning.
const (
	exitDone    = 0
	exitError   = 1
	exitUsage   = 2
	exitNothing = 3
	exitBusy    = 7
)

// collectAt is how much garbage may lie about, in percent of what is in use.
const collectAt = 40

func main() {
	if os.Getenv("GOGC") == "" {
		// What deltas are made of is large and holds no pointers: collecting it is cheap,
		// waiting for twice as much is not.
		debug.SetGCPercent(collectAt)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main with the world handed in.
func run(ctx context.Context, args []string, in *os.File, out, errOut io.Writer) int {
	t := &terminal{in: in, out: out, err: errOut}
	root := newRootCommand(t)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	t.endProgress()
	if err == nil {
		return exitDone
	}
	code := exitCode(err)
	t.complain("%v", err)
	if code == exitUsage {
		t.hint("%s --help", cmd.CommandPath())
	}
	return code
}

func exitCode(err error) int {
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, server.ErrNothingToDo):
		return exitNothing
	case errors.Is(err, server.ErrBusy):
		return exitBusy
	}
	return exitError
}

// usageError means that the command line makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// exitStatus closes every help text.
const exitStatus = `

EXIT STATUS
  0  done
  1  error
  2  the command line makes no sense
  3  nothing to do
  7  another process works on the site`

func newRootCommand(t *terminal) *cobra.Command {
	root := &cobra.Command{
		Use:   "twinkeel-server",
		Short: "Publish and serve updates for hosts with A/B slots",
		Long: `twinkeel-server turns images into signed releases with deltas, keeps them in a
directory of static files, and serves it.

  twinkeel-server init site                                  keys and an empty repository
  twinkeel-server publish site --channel stable --version 1.0 \
      --compatible example-amd64 --image root=root.img       a release, signed
  twinkeel-server serve site                                 or any web server

Keys of people are encrypted; the passphrase is taken from --passphrase-file, from the
file that TWINKEEL_PASSPHRASE_FILE names, or asked for on the terminal. A key may also
live in a device or a service: NAME://KEY is reached through the program
sigstore-kms-NAME in the directory --plugins, or TWINKEEL_PLUGINS.` + exitStatus,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("a command is missing")
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	f := root.PersistentFlags()
	f.BoolVar(&t.json, "json", false, "print the result as JSON")
	f.BoolVarP(&t.quiet, "quiet", "q", false, "show no progress")
	f.StringVar(&t.passphraseFile, "passphrase-file", "", "file whose first line opens encrypted keys")
	f.StringArrayVar(&t.keys, "key", nil, "private key file, or NAME://KEY, to sign with, beside those of the site (repeatable)")
	f.StringVar(&t.pluginDir, "plugins", "", "directory of sigstore-kms-NAME programs, for keys called NAME://KEY")
	root.AddCommand(
		newInitCommand(t), newPublishCommand(t), newPromoteCommand(t), newWithdrawCommand(t), newRolloutCommand(t),
		newRenewCommand(t), newStatusCommand(t), newVerifyCommand(t), newGCCommand(t), newExportCommand(t),
		newBackupCommand(t), newRestoreCommand(t), newRootKeysCommand(t), newProposalCommand(t), newChannelCommand(t),
		newKeyCommand(t), newLogCommand(t), newDeltaCommand(t), newAppCommand(t), newImageCommand(t), newDiskCommand(t),
		newServeCommand(), newDocsCommand(t),
	)
	wrapArgs(root)
	return root
}

// wrapArgs makes wrong arguments and missing or contradicting flags usage errors, for all
// commands.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &usageError{err}
			}
			if err := cmd.ValidateRequiredFlags(); err != nil {
				return &usageError{err}
			}
			if err := cmd.ValidateFlagGroups(); err != nil {
				return &usageError{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}
