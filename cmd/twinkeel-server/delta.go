package main

import (
	"bytes"
	"context"
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

func newDeltaCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delta",
		Short: "Make, apply and inspect deltas by hand",
		Long: `Publish makes, verifies and signs deltas itself; these commands are for looking at what
it made, for experiments, and for exchange with other tools.` + exitStatus,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newDeltaCreateCommand(t), newDeltaApplyCommand(t), newDeltaInspectCommand(t))
	return cmd
}

func newDeltaCreateCommand(t *terminal) *cobra.Command {
	var output, format string
	var threads int
	cmd := &cobra.Command{
		Use:   "create OLD NEW -o FILE",
		Short: "Make the delta that leads from OLD to NEW",
		Long: `Create makes the delta that leads from OLD to NEW, and verifies it by applying it. With -
in place of OLD the result is a full image: the same container without a base.

The format bsdiff40 is for other tools; it wants both files in memory, many times over.` + exitStatus,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch format {
			case "twinkeel":
				return createContainer(cmd.Context(), t, args[0], args[1], output, diff.Options{Threads: threads})
			case "bsdiff40":
				return createPatch(args[0], args[1], output)
			}
			return usagef("--format: got %q, want twinkeel or bsdiff40", format)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the delta to `FILE`")
	cmd.Flags().StringVar(&format, "format", "twinkeel", "twinkeel or bsdiff40")
	cmd.Flags().IntVar(&threads, "threads", 0, "use `N` threads; 0 means all processors; the result is the same")
	require(cmd, "output")
	return cmd
}

func createContainer(ctx context.Context, t *terminal, oldPath, newPath, output string, o diff.Options) error {
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
		o.Spool, o.Progress = spool, t.stepProgress("create")
		r, err := diff.Create(ctx, old, new, out, o)
		if err != nil {
			return err
		}
		return diff.Verify(ctx, out, r.Blob.Size, old, t.stepProgress("verify"))
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

func newDeltaApplyCommand(t *terminal) *cobra.Command {
	var output string
	var threads int
	cmd := &cobra.Command{
		Use:   "apply OLD DELTA -o NEW",
		Short: "Make NEW of OLD and a delta",
		Long: `Apply makes NEW of OLD and a delta of either format. With - in place of OLD, DELTA is a
full image. NEW is complete and verified, or not there at all; the format bsdiff40,
however, has no digest to verify with.` + exitStatus,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
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
				if err := decode.Apply(cmd.Context(), c, base, out, decode.Options{Threads: threads, Progress: t.stepProgress("apply")}); err != nil {
					return fmt.Errorf("apply %s: %w", args[1], err)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the new file to `FILE`")
	cmd.Flags().IntVar(&threads, "threads", 0, "use `N` threads, with 16 MiB each; 0 means all processors")
	require(cmd, "output")
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

func newDeltaInspectCommand(t *terminal) *cobra.Command {
	var images []string
	cmd := &cobra.Command{
		Use:   "inspect DELTA",
		Short: "Show what a delta is made of",
		Long: `Inspect shows what a delta of either format is made of: how many bytes are zero, copied,
changed and new, in all and for each segment, and what they take, by operation and by
stream. With both images it shows also which files of the new one (EROFS, ext4) take how
much. Every payload is verified.` + exitStatus,
		Example: `  twinkeel-server delta inspect delta
  twinkeel-server delta inspect delta --images old.img,new.img --json | jq .files`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := openInput(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			var files *shares
			if len(images) > 0 {
				if len(images) != 2 {
					return usagef("--images: got %d files, want OLD,NEW", len(images))
				}
				old, err := openInput(images[0])
				if err != nil {
					return err
				}
				defer old.Close()
				new, err := openInput(images[1])
				if err != nil {
					return err
				}
				defer new.Close()
				if files, err = newShares(old, new); err != nil {
					return err
				}
			}
			r, err := inspect(f, files)
			if err != nil {
				return fmt.Errorf("inspect %s: %w", args[0], err)
			}
			return t.answer(r, func() { r.print(t) })
		},
	}
	cmd.Flags().StringSliceVar(&images, "images", nil, "`OLD,NEW`: the images that it leads from and to")
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
