package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed testdata/initramfs.sh
var initramfsScript string

// cleanDebian is a Debian with initramfs-tools, as the tests of the packages keep it.
const cleanDebian = ".cache/deb/bookworm-initramfs.tar"

// errLacks is in the chain of the error of a core for which something is not there.
var errLacks = errors.New("it cannot be tried here")

// distribution returns the cloud kernel with an initramfs that Debian's own tools made.
func (k *kit) distribution(cache string) (c core, err error) {
	if os.Geteuid() != 0 {
		return c, fmt.Errorf("%w: initramfs-tools need root, for chroot", errLacks)
	}
	if _, err := os.Stat(cleanDebian); err != nil {
		return c, fmt.Errorf("%w: run .ci/install e2e-full: %w", errLacks, err)
	}
	root, script := filepath.Join(k.work, "distribution"), filepath.Join(k.work, "initramfs.sh")
	if err := errors.Join(os.Mkdir(root, 0o755), os.WriteFile(script, []byte(initramfsScript), 0o644)); err != nil {
		return c, err
	}
	if err := k.tool("tar", "-C", root, "-x", "--numeric-owner", "-f", cleanDebian, "--exclude=./dev/*"); err != nil {
		return c, err
	}
	cmd := exec.CommandContext(k.ctx, "sh", script, root, cache, filepath.Join(k.bin, "twinkeel-init"), "examples/initramfs-tools")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "SOURCE_DATE_EPOCH=1700000000"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return c, fmt.Errorf("initramfs of Debian's own tools: %w: %.2000s", err, out)
	}
	c = k.cloud
	if c.initramfs, err = os.ReadFile(filepath.Join(root, "initrd.img")); err != nil {
		return c, err
	}
	return c, os.RemoveAll(root)
}
