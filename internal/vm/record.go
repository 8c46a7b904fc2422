package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/grub"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
)

// CopyFiles copies files and directories out of the FAT that begins at a byte of a disk, into
// dir, which is emptied before. mtools read it: neither the loader nor the machine does.
func CopyFiles(ctx context.Context, disk string, at int64, dir string, what ...string) error {
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mcopy", append(append([]string{"-s", "-n", "-i", fmt.Sprintf("%s@@%d", disk, at)}, what...), dir)...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mcopy: %w: %s", err, out)
	}
	return nil
}

// GRUBRecord reads the boot record of a machine that is off, from the FAT that begins at a byte
// of its disk; dir is for its files.
func GRUBRecord(ctx context.Context, disk string, at int64, dir string) (bootloader.State, error) {
	if err := CopyFiles(ctx, disk, at, dir, "::/twinkeel"); err != nil {
		return bootloader.State{}, fmt.Errorf("boot record: %w", err)
	}
	blocks, err := grub.Files(filepath.Join(dir, "twinkeel"))
	if err != nil {
		return bootloader.State{}, err
	}
	return grub.New(blocks, running.Kernel{}).Load(ctx)
}
