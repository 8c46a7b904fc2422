package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeel/twinkeel/disks"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/server"
)

func newDiskCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "disk",
		Short: "Make disks of new hosts",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("a command is missing: create")
		},
	}
	cmd.AddCommand(newDiskCreateCommand(t))
	return cmd
}

// diskFlags are what `disk create` is told.
type diskFlags struct {
	o                            disks.Options
	output, server, config, add  string
	channel, compatible, cmdline string
	version                      release.Version
	images                       pairsValue
}

func newDiskCreateCommand(t *terminal) *cobra.Command {
	in := diskFlags{images: pairsValue{}}
	cmd := &cobra.Command{
		Use:   "create [DIR] -o DISK",
		Short: "Write a disk that boots a release",
		Long: `Create writes the image of a disk that boots: a partition table, the distribution's own
boot loader, two slots, and a data partition. Slot a holds the release of the site DIR that
the channel offers, or --version, with its hash tree, verified, and committed in the boot
record. The data partition holds /etc/twinkeel/twinkeel.toml and root.json, and the manifest
by which the host adopts the slot when it boots for the first time.

Nothing of it needs root. The partitions are bios and bootenv (with GRUB), esp, root-a, boot-a,
root-b, boot-b and data; by default a slot has room for images twice as large as today's.

With GRUB, which starts on BIOS and UEFI, the image boot is a file system that GRUB reads,
such as ext2, with /vmlinuz and /initrd.img. With systemd-boot, for UEFI, it is a unified
kernel image. image build makes either. A data partition that such an image cannot mount is
refused: for xfs and btrfs, image build needs --module xfs or --module btrfs.

Without a site, --image says what the slot holds; such a host has to be adopted by hand,
and its first update is a full one.

  twinkeel-server disk create site --channel stable --server https://updates.example.net -o host.img
  twinkeel-server disk create site --channel stable --config twinkeel.toml --size 16G --data-fs xfs \
      --loader systemd-boot --add identity -o host.img
  twinkeel-server disk create --image root=root.erofs --image boot=boot.img --version 1.0 \
      --config twinkeel.toml -o host.img

Write it to a medium with dd, or start it: qemu-system-x86_64 -m 1G -drive file=host.img,format=raw` + exitStatus,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := in.create(cmd.Context(), t, args)
			if err != nil {
				return err
			}
			return t.answer(r, func() {
				t.say("%s: %s, %s, version %s in slot a", r.Path, size(r.Size), r.Loader, r.Version)
				for _, p := range r.Partitions {
					t.say("  %-7s %10s", p.Label, size(p.Size))
				}
				t.warn(r.Notes)
			})
		},
	}
	in.flags(cmd)
	return cmd
}

func (in *diskFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&in.output, "output", "o", "", "`FILE` to write; it must not exist")
	f.StringVar(&in.channel, "channel", "", "channel of the release, and of the host")
	f.Var(versionValue{&in.version}, "version", "release; default: what the channel offers")
	f.StringVar(&in.compatible, "compatible", "", "machine of the release, if it is for several")
	f.Var(in.images, "image", "without a site: image of slot a, NAME=FILE (root and boot)")
	f.StringVar(&in.server, "server", "", "base `URL` that the host updates from")
	f.StringVar(&in.config, "config", "", "`FILE` with the host's twinkeel.toml, instead of --server")
	f.StringVar(&in.add, "add", "", "`DIR` whose content is copied onto the data partition")
	f.StringVar(&in.o.Loader, "loader", disks.GRUB, "grub or systemd-boot")
	f.StringVar(&in.cmdline, "cmdline", "root=/dev/mapper/twinkeel-root ro twinkeel.record=PARTLABEL=bootenv console=tty0 console=ttyS0", "kernel's command line, with grub")
	f.StringVar(&in.o.Data.FileSystem, "data-fs", "ext4", "file system of the data partition: ext4, or xfs or btrfs if the images were built with that --module")
	f.Int64Var(&in.o.Sector, "sector-size", 512, "of the medium's logical sectors: 512, or 4096, which no BIOS starts")
	f.Var(bytesValue{&in.o.Size}, "size", "of the disk, such as 8G; default: the sum")
	f.Var(bytesValue{&in.o.ESP}, "esp-size", "of the ESP")
	f.Var(bytesValue{&in.o.Root}, "root-size", "of each root partition; default: twice the image")
	f.Var(bytesValue{&in.o.Boot}, "boot-size", "of each boot partition; default: twice the image")
	f.Var(bytesValue{&in.o.Data.Size}, "data-size", "of the data partition; default: what is left")
	require(cmd, "output")
	cmd.MarkFlagsMutuallyExclusive("server", "config")
	cmd.MarkFlagsOneRequired("server", "config")
}

// create makes the disk from what the flags say.
func (in *diskFlags) create(ctx context.Context, t *terminal, args []string) (*disks.Result, error) {
	in.o.Cmdline, in.o.Progress, in.o.Data.Extra = in.cmdline, t.progress, in.add
	var err error
	if in.config != "" {
		if in.o.Data.Config, err = readLimited(in.config, release.MaxManifestSize); err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
	}
	if len(args) == 0 {
		if err := in.fromFiles(); err != nil {
			return nil, err
		}
		return disks.Create(ctx, in.output, in.o)
	}
	if len(in.images) > 0 {
		return nil, usagef("--image says what the slot holds, and so does the site %s", args[0])
	}
	if in.channel == "" {
		return nil, usagef("--channel is missing: whose release is it to be?")
	}
	site, err := server.OpenReadOnly(args[0], t.options())
	if err != nil {
		return nil, err
	}
	r, err := site.Release(in.channel, in.compatible, in.version)
	if err != nil {
		return nil, err
	}
	in.o.Version, in.o.Images = r.Manifest.Version, map[string]disks.Image{}
	in.o.Data.Root, in.o.Data.Manifest = r.Root, r.Encoded
	for _, i := range r.Manifest.Images {
		in.o.Images[i.Name] = disks.Image{Size: i.Size, Root: i.Root, Salt: i.Salt,
			Write: func(ctx context.Context, dst disks.WriterAt) error { return r.Unpack(ctx, i.Name, dst) }}
	}
	if in.config == "" {
		if in.o.Data.Config, err = hostConfig(in.server, in.channel, r.Manifest.Compatible); err != nil {
			return nil, err
		}
	}
	return disks.Create(ctx, in.output, in.o)
}

// fromFiles takes the images from files.
func (in *diskFlags) fromFiles() error {
	switch {
	case len(in.images) == 0:
		return usagef("a site or --image is missing: what is the slot to hold?")
	case in.version.IsZero():
		return usagef("--version is missing: the images do not say it")
	case in.config == "":
		return usagef("--config is missing: without a site nothing tells the channel")
	}
	in.o.Version, in.o.Images = in.version, map[string]disks.Image{}
	for name, path := range in.images {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		padded := (info.Size() + release.BlockSize - 1) / release.BlockSize * release.BlockSize
		in.o.Images[name] = disks.Image{Size: padded, Write: func(_ context.Context, dst disks.WriterAt) error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(io.NewOffsetWriter(dst, 0), f)
			return err
		}}
	}
	return nil
}

// hostConfig writes the configuration of a host with nothing but the necessary.
func hostConfig(server, channel, compatible string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintln(&b, "# Written by twinkeel-server disk create.")
	for _, v := range [][2]string{{"server", server}, {"channel", channel}, {"compatible", compatible}} {
		if strings.ContainsFunc(v[1], func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r > '~' }) {
			return nil, fmt.Errorf("%s: got %q, want plain characters", v[0], v[1])
		}
		fmt.Fprintf(&b, "%s = %q\n", v[0], v[1])
	}
	for _, slot := range []string{"a", "b"} {
		fmt.Fprintf(&b, "\n[slots.%s]\nroot = \"PARTLABEL=root-%s\"\nboot = \"PARTLABEL=boot-%s\"\n", slot, slot, slot)
	}
	return b.Bytes(), nil
}

// readLimited reads a file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: got more than %d bytes", path, limit)
	}
	return b, err
}

// bytesValue is a flag that holds a number of bytes: 512M, 8G, 1T.
type bytesValue struct{ n *int64 }

func (f bytesValue) Type() string { return "bytes" }
func (f bytesValue) String() string {
	if f.n == nil || *f.n == 0 {
		return ""
	}
	return strconv.FormatInt(*f.n, 10)
}

// Set reads a whole number with a unit of 1024.
func (f bytesValue) Set(s string) error {
	digits := strings.TrimRight(s, "KMGTiB")
	shift, ok := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[strings.TrimSuffix(s[len(digits):], "iB")]
	n, err := strconv.ParseUint(digits, 10, 50)
	if err != nil || !ok || n > 1<<50>>shift {
		return errors.New("want a size such as 512M or 8G")
	}
	*f.n = int64(n << shift)
	return nil
}
