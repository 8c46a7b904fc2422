package main

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/twinkeel/twinkeel/disks"
	"github.com/twinkeel/twinkeel/release"
)

// sectorSize is that of the disks that have large sectors, in bytes.
const sectorSize = 4096

// largeFactory writes a disk with large sectors that has a release in slot a, committed, as
// `disk create` does: no tool of Debian partitions a file as such a disk.
func (k *kit) largeFactory(name string, l loader, m release.Manifest, raw []byte) (string, error) {
	tree, err := k.dataTree(raw)
	if err != nil {
		return "", err
	}
	o := disks.Options{
		Version: m.Version, Loader: disks.GRUB, Cmdline: cmdline + " twinkeel.record=PARTLABEL=bootenv" + l.cmdline, Sector: sectorSize,
		Images: map[string]disks.Image{}, Data: disks.Data{FileSystem: "ext4", Extra: tree},
	}
	for _, i := range m.Images {
		path := filepath.Join(k.work, l.id()+"-"+i.Name+"-"+m.Version.String()+".img")
		o.Images[i.Name] = disks.Image{Size: i.Size, Root: i.Root, Salt: i.Salt, Write: func(_ context.Context, dst disks.WriterAt) error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(dst, f)
			return err
		}}
	}
	disk := filepath.Join(k.work, name)
	_, err = disks.Create(k.ctx, disk, o)
	return disk, err
}
