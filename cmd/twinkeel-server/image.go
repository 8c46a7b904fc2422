package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/images"
)

func newImageCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Make the images of a release",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("a command is missing: build")
		},
	}
	cmd.AddCommand(newImageBuildCommand(t))
	return cmd
}

func newImageBuildCommand(t *terminal) *cobra.Command {
	var in images.Options
	var when string
	cmd := &cobra.Command{
		Use:   "build SOURCE -o DIR",
		Short: "Make root and boot images from a root file system",
		Long: `Build makes DIR/root.erofs and DIR/boot.img from a root file system: a directory, or an
uncompressed tar archive, which keeps owners without root. The kernel moves from /boot into the
boot image, with an initrd: twinkeel-init and the modules it needs, if the agent's package is
installed in SOURCE; else the one in /boot, unpacked, or --initrd. A data partition on xfs or
btrfs takes --module xfs or btrfs, 4 MB each; ext4 is always there. With --loader grub the boot
image is an archive that GRUB reads; with systemd-boot a unified kernel image.

The same source gives the same bytes. Times after SOURCE_DATE_EPOCH, or --time, become that
time. What differs from build to build (logs, caches) or belongs to one machine (machine-id,
host keys, random seeds) is refused with the reason; --tidy leaves it out.

  mmdebstrap --include=linux-image-cloud-amd64,systemd,twinkeeld bookworm root.tar
  SOURCE_DATE_EPOCH=1700000000 twinkeel-server image build root.tar --tidy -o images
  twinkeel-server image build tree --time 2026-11-21T12:00:00Z --loader systemd-boot \
      --cmdline 'root=/dev/mapper/twinkeel-root ro' -o images
  twinkeel-server publish site --channel stable --version 1.0 --compatible example-amd64 \
      --image root=images/root.erofs --image boot=images/boot.img` + exitStatus,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			in.Source = args[0]
			if in.Time, err = buildTime(when); err != nil {
				return err
			}
			r, err := images.Build(cmd.Context(), in)
			if err != nil {
				return err
			}
			return t.answer(r, func() {
				first := "its initrd"
				if r.FirstStage {
					first = "twinkeel-init"
				}
				t.say("kernel %s with %s; %d files, %d of them with the time of the image; %d left out", r.Kernel, first, r.Files, r.Clamped, r.LeftOut)
				for _, name := range []string{"root", "boot"} {
					t.say("  %s: %s, sha256 %s", r.Images[name].Path, size(r.Images[name].Size), r.Images[name].SHA256)
				}
				t.warn(slices.Clone(r.Notes))
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&in.Output, "output", "o", "", "`DIR` for the images")
	f.StringVar(&when, "time", "", "newest `TIME` of a file, RFC 3339; default: SOURCE_DATE_EPOCH")
	f.StringVar(&in.Loader, "loader", images.GRUB, "grub or systemd-boot")
	f.StringVar(&in.Initrd, "initrd", "", "`FILE` to take as the initrd")
	f.StringArrayVar(&in.Modules, "module", nil, "module that twinkeel-init is to load, beside the usual ones: `NAME`, such as xfs or btrfs for disk create --data-fs (repeatable)")
	f.StringVar(&in.Cmdline, "cmdline", "root=/dev/mapper/twinkeel-root ro twinkeel.record=PARTLABEL=esp console=tty0 console=ttyS0", "kernel's command line, with systemd-boot")
	f.BoolVar(&in.Tidy, "tidy", false, "leave out what would be refused")
	require(cmd, "output")
	return cmd
}

// buildTime reads the flag or, without it, SOURCE_DATE_EPOCH.
func buildTime(flag string) (time.Time, error) {
	if flag != "" {
		at, err := time.Parse(time.RFC3339, flag)
		if err != nil {
			return at, usagef("time: got %q, want one such as 2026-11-21T12:00:00Z", flag)
		}
		return at.UTC(), nil
	}
	text, ok := os.LookupEnv("SOURCE_DATE_EPOCH")
	if !ok {
		return time.Time{}, usagef("--time or SOURCE_DATE_EPOCH is missing: without one each build has its own")
	}
	n, err := strconv.ParseInt(text, 10, 48)
	if err != nil || n < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: got %q, want seconds since 1970", text)
	}
	return time.Unix(n, 0).UTC(), nil
}
