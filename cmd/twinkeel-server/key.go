package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/signing/publisher"
)

func newKeyCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make keys",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return usagef("want: key create|import DIR NAME") },
	}
	kind, plain := string(publisher.Ed25519), false
	create := &cobra.Command{
		Use:   "create DIR NAME",
		Short: "Make a key pair DIR/NAME.pem and DIR/NAME.pub",
		Long: `Create makes a key for a person, encrypted with the passphrase, or for the server with
--plain. The .pub file is what others need, for instance: root DIR add-key. The private
key is in cosign's format.

  twinkeel-server key create /media/stick anna` + exitStatus,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var pass []byte
			var err error
			if !plain {
				if pass, err = t.newPassphrase(); err != nil {
					return err
				}
			}
			key, err := publisher.Generate(publisher.Kind(kind))
			if err != nil {
				return usagef("%w", err)
			}
			if err := os.MkdirAll(args[0], 0o700); err != nil {
				return err
			}
			if err := publisher.SaveKey(args[0], args[1], key, pass); err != nil {
				return fmt.Errorf("%w", err)
			}
			return t.answer(newKey{1, args[1], key.Public.ID}, func() { t.say("%s %s", args[1], key.Public.ID) })
		},
	}
	create.Flags().StringVar(&kind, "kind", kind, "ed25519 or p256")
	create.Flags().BoolVar(&plain, "plain", false, "do not encrypt: for the server's own roles")
	cmd.AddCommand(create, newKeyImportCommand(t))
	return cmd
}

func newKeyImportCommand(t *terminal) *cobra.Command {
	var kms string
	var create bool
	cmd := &cobra.Command{
		Use:   "import DIR NAME --kms NAME://KEY",
		Short: "Take up a key that lives in a device or a service",
		Long: `Import asks the plugin for the public key and writes DIR/NAME.pub and DIR/NAME.kms. From
then on the key signs like one in a file. With --create the plugin makes the key first.

  twinkeel-server key import site/keys release --kms softhsm://release --plugins /usr/local/libexec/twinkeel` + exitStatus,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if !publisher.IsPluginKey(kms) {
				return usagef("--kms: got %q, want NAME://KEY", kms)
			}
			if create {
				if _, err := t.plugins().Create(kms); err != nil {
					return err
				}
			}
			key, err := t.plugins().Open(kms)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o700); err != nil {
				return err
			}
			if err := publisher.SavePluginKey(args[0], args[1], kms, key.Public); err != nil {
				return err
			}
			return t.answer(newKey{1, args[1], key.Public.ID}, func() { t.say("%s %s", args[1], key.Public.ID) })
		},
	}
	cmd.Flags().StringVar(&kms, "kms", "", "the key: NAME://KEY")
	cmd.Flags().BoolVar(&create, "create", false, "make the key first")
	require(cmd, "kms")
	return cmd
}

// newKey is what `key create --json` prints.
type newKey struct {
	Format int    `json:"format"`
	Name   string `json:"name"`
	ID     string `json:"id"`
}
