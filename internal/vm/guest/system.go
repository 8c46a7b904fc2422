package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader/grub"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
	"github.com/twinkeel/twinkeel/partitions/bootloader/sdboot"
)

// start mounts the kernel's file systems and loads the modules.
func start(say func(string, ...any)) error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	modules, err := filepath.Glob("/mod/*.ko") // sorted: their names begin with a number
	if err != nil {
		return err
	}
	for _, path := range modules {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
			say("module %s: %v", filepath.Base(path), err)
		}
		f.Close()
	}
	if _, err := os.Stat("/sys/firmware/efi"); err == nil {
		return unix.Mount("efivarfs", "/sys/firmware/efi/efivars", "efivarfs", 0, "")
	}
	return nil
}

// open opens the boot loader's record: GRUB's if there is a partition for it, else
// systemd-boot's on the ESP.
func (g *guest) open() error {
	if _, err := os.Stat("/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"); err == nil {
		return g.openSDBoot()
	}
	dir, err := mount("bootenv")
	if err != nil {
		return err
	}
	g.dir = filepath.Join(dir, "twinkeel")
	if g.loader, err = grub.Open(g.dir, grub.Running()); err != nil {
		return err
	}
	g.boot, err = g.loader.Booted(context.Background())
	return err
}

func (g *guest) openSDBoot() error {
	dir, err := mount("esp")
	if err != nil {
		return err
	}
	g.dir = dir
	source := func(slot partitions.Slot) (partitions.OpenDevice, error) {
		path, err := partitions.Resolve("PARTLABEL=boot-" + slot.String())
		if err != nil {
			return nil, err
		}
		return partitions.OpenRead(path)
	}
	if g.loader, err = sdboot.Open(dir, source, running.Here()); err != nil {
		return err
	}
	g.boot, err = g.loader.Booted(context.Background())
	return err
}

// mount mounts the FAT file system of the partition with that label and returns where.
func mount(label string) (dir string, err error) {
	dev, err := partitions.Resolve("PARTLABEL=" + label)
	if err != nil {
		return "", err
	}
	dir = "/fs-" + label
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	err = unix.Mount(dev, dir, "vfat", unix.MS_NOATIME, "errors=continue")
	if errors.Is(err, unix.EBUSY) {
		err = nil // it is there already
	} else if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
		err = unix.Mount(dev, dir, "vfat", unix.MS_RDONLY, "")
	}
	return dir, err
}

// noise overwrites the first sector of a file.
func noise(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{0xfe, 0x81}, 256), 0)
	return errors.Join(err, f.Sync(), f.Close())
}

// copyFile copies a file.
func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes what changed in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
