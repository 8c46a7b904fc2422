package main

import (
	"bytes"
	"debug/pe"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// started checks that the kernel that came up was told of the release that runs: of its
// version, and of the root hash that is in its signed manifest. For systemd-boot the command
// line of the kernel that was started is its own, and names its release, too.
func (h *host) started(u up) error {
	m, _, err := h.site.manifest(h.l, u["release"])
	if err != nil {
		return fmt.Errorf("got up as %v: %w", u, err)
	}
	i := slices.IndexFunc(m.Images, func(i release.Image) bool { return i.Name == "root" })
	if i < 0 {
		return fmt.Errorf("manifest of %s: has no root", m.Version)
	}
	own := "-"
	if h.l.name == systemdBoot.name {
		own = u["release"]
	}
	if root := m.Images[i].Root.String(); u["roothash"] != root || u["version"] != u["release"] || u["e2e"] != own {
		return fmt.Errorf("the kernel of slot %s, release %s: told of version %s, root hash %s, by its own command line %s; want root hash %s, own %s",
			u["slot"], u["release"], u["version"], u["roothash"], u["e2e"], root, own)
	}
	return nil
}

// holds checks that a slot, boot image and root, is a release and nothing else. For
// systemd-boot, so is the copy of the slot's kernel, which is what was started.
func (h *host) holds(slot, version string) error {
	for _, name := range []string{"boot", "root"} {
		want, err := os.ReadFile(h.kit.content(h.l, version, name))
		if err != nil {
			return err
		}
		p, err := h.partition(name + "-" + slot)
		if err != nil {
			return err
		}
		got, err := h.part(p.Start, min(p.Size, int64(len(want))))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("slot %s: its %s is not that of release %s", slot, name, version)
		}
		if name == "boot" && h.l.name == systemdBoot.name {
			if err := h.copied(slot, want); err != nil {
				return fmt.Errorf("slot %s, release %s: %w", slot, version, err)
			}
		}
	}
	return nil
}

// copied checks that what systemd-boot starts of a slot is the image that lies there, as far
// as its sections reach.
func (h *host) copied(slot string, image []byte) error {
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		return err
	}
	size := 0
	for _, s := range f.Sections {
		size = max(size, int(s.Offset+s.Size))
	}
	esp, err := h.partition("esp")
	if err != nil {
		return err
	}
	path := filepath.Join(h.dir, "kernel.efi")
	cmd := exec.CommandContext(h.ctx, "mcopy", "-n", "-o", "-i", fmt.Sprintf("%s@@%d", h.c.Disk, esp.Start), "::/twinkeel/"+slot+".efi", path)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("its kernel's copy: mcopy: %w: %s", err, out)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, image[:size]) {
		return fmt.Errorf("its kernel's copy, of %d bytes, is not the image, of %d", len(got), size)
	}
	return os.Remove(path)
}

// table reads the partition table.
func (h *host) table() ([]partitions.Partition, error) {
	f, err := os.Open(h.c.Disk)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return partitions.ReadGPT(f, st.Size(), int64(max(h.c.Sector, 512)))
}

// partition finds a partition of the disk by its label.
func (h *host) partition(label string) (p partitions.Partition, err error) {
	list, err := h.table()
	if err != nil {
		return p, err
	}
	i := slices.IndexFunc(list, func(p partitions.Partition) bool { return p.Name == label })
	if i < 0 {
		return p, fmt.Errorf("disk: has no partition %s", label)
	}
	return list[i], nil
}
