package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/deltas/bsdiff40"
	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/deltas/diff"
)

// noBase is written in place of OLD for a full image, which starts from nothing.
const noBase = "-"

func newDeltaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delta",
		Short: "make, apply and inspect deltas by hand",
		Long: `Make, apply and inspect deltas by hand.

publish makes, verifies and signs deltas itself; these commands are for looking at what
it made, for experiments, and for exchange with other tools.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newDeltaCreateCommand(), newDeltaApplyCommand(), newDeltaInspectCommand())
	return cmd
}

func newDeltaCreateCommand() *cobra.Command {
	var output, format string
	var threads int
	cmd := &cobra.Command{
		Use:   "create OLD NEW -o FILE",
		Short: "make the delta that leads from OLD to NEW",
		Long: `Make the delta that leads from OLD to NEW, and verify it by applying it.

With - in place of OLD the result is a full image: the same container without a base.
The format bsdiff40 is for other tools; it wants both files in memory, many times over.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := newProgress(cmd.ErrOrStderr())
			defer p.clear()
			switch format {
			case "twinkeel":
				return createContainer(cmd.Context(), args[0], args[1], output, threads, p)
			case "bsdiff40":
				return createPatch(args[0], args[1], output)
			}
			return fmt.Errorf("--format: got %q, want twinkeel or bsdiff40", format)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the delta to `FILE`")
	cmd.Flags().StringVar(&format, "format", "twinkeel", "twinkeel or bsdiff40")
	cmd.Flags().IntVar(&threads, "threads", 0, "use `N` threads; 0 means all processors; the result is the same")
	_ = cmd.MarkFlagRequired("output")
	return cmd
}

func createContainer(ctx context.Context, oldPath, newPath, output string, threads int, p *progress) error {
	var old *diff.Source
	if oldPath != noBase {
		f, err := openInput(oldPath)
		if err != nil {
			return err
		}
		defer f.Close()
		old = &diff.Source{Reader: f, Size: f.size}
	}
	f, err := openInput(newPath)
	if err != nil {
		return err
	}
	defer f.Close()
	new := &diff.Source{Reader: f, Size: f.size}

	return writeOutput(output, func(out *os.File) error {
		spool, err := os.CreateTemp("", "twinkeel-spool-")
		if err != nil {
			return err
		}
		defer spool.Close()
		// Without a name it is gone however this process ends.
		if err := os.Remove(spool.Name()); err != nil {
			return err
		}
		r, err := diff.Create(ctx, old, new, out, diff.Options{Threads: threads, Spool: spool, Progress: p.step("create")})
		if err != nil {
			return err
		}
		return diff.Verify(ctx, out, r.Blob.Size, old, p.step("verify"))
	})
}

func createPatch(oldPath, newPath, output string) error {
	old, err := readInput(oldPath, bsdiff40.DefaultLimit)
	if err != nil {
		return err
	}
	new, err := readInput(newPath, bsdiff40.DefaultLimit)
	if err != nil {
		return err
	}
	patch, err := bsdiff40.Create(old, new, bsdiff40.Limits{})
	if err != nil {
		return err
	}
	again, err := bsdiff40.Apply(old, patch, bsdiff40.Limits{Patch: int64(len(patch))})
	if err != nil {
		return err
	}
	if !bytes.Equal(again, new) {
		return errors.New("create patch: applied, it does not make NEW")
	}
	return writeOutput(output, func(out *os.File) error {
		_, err := out.Write(patch)
		return err
	})
}

func newDeltaApplyCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "apply OLD DELTA -o NEW",
		Short: "make NEW of OLD and a delta",
		Long: `Make NEW of OLD and a delta of either format.

With - in place of OLD, DELTA is a full image. NEW is complete and verified, or not there
at all; the format bsdiff40, however, has no digest to verify with.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := newProgress(cmd.ErrOrStderr())
			defer p.clear()
			delta, err := openInput(args[1])
			if err != nil {
				return err
			}
			defer delta.Close()
			if delta.isPatch() {
				return applyPatch(args[0], args[1], output)
			}
			var base *decode.Base
			if args[0] != noBase {
				old, err := openInput(args[0])
				if err != nil {
					return err
				}
				defer old.Close()
				base = &decode.Base{Reader: old, Size: old.size}
			}
			return writeOutput(output, func(out *os.File) error {
				c := decode.Container{Reader: delta, Size: delta.size}
				if err := decode.Apply(cmd.Context(), c, base, out, p.step("apply")); err != nil {
					return fmt.Errorf("apply %s: %w", args[1], err)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the new file to `FILE`")
	_ = cmd.MarkFlagRequired("output")
	return cmd
}

func applyPatch(oldPath, patchPath, output string) error {
	old, err := readInput(oldPath, bsdiff40.DefaultLimit)
	if err != nil {
		return err
	}
	patch, err := readInput(patchPath, bsdiff40.DefaultLimit)
	if err != nil {
		return err
	}
	new, err := bsdiff40.Apply(old, patch, bsdiff40.Limits{})
	if err != nil {
		return err
	}
	return writeOutput(output, func(out *os.File) error {
		_, err := out.Write(new)
		return err
	})
}

func newDeltaInspectCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect DELTA",
		Short: "show what a delta is made of",
		Long:  "Show what a delta of either format is made of. Every payload is verified.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := openInput(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			r, err := inspect(f)
			if err != nil {
				return fmt.Errorf("inspect %s: %w", args[0], err)
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			r.print(cmd.OutOrStdout())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one line of JSON")
	return cmd
}

// readInput reads a whole file of at most limit bytes.
func readInput(path string, limit int64) ([]byte, error) {
	f, err := openInput(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.size > limit {
		return nil, fmt.Errorf("%s: got %d bytes, want at most %d", path, f.size, limit)
	}
	b := make([]byte, f.size)
	_, err = io.ReadFull(io.NewSectionReader(f, 0, f.size), b)
	return b, err
}
