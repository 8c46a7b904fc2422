package images

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/internal/cpio"
)

// FirstStage is where the package of the agent puts the first stage. A source that has it
// is started by it; any other by the initrd in its /boot.
const FirstStage = "usr/lib/twinkeel/twinkeel-init"

// The modules that the first stage gets, each with those that it needs, in the order in
// which it loads them; what the kernel has built in or does not have is passed over. xfs and
// btrfs are asked for where a data partition has them: each would add 4 MB to every image.
var (
	required = []string{"dm-verity", "erofs", "overlay"}
	usual    = []string{
		"virtio_pci", "virtio_blk", "virtio_scsi", "nvme", "ahci", "ata_piix", "sd_mod", "mmc_block", "usb_storage",
		"xen-blkfront", "hv_storvsc", "ext4", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1", "efivarfs",
		"i6300esb", "iTCO_wdt", "softdog", "efi_pstore", "ramoops",
	}
)

// firstStage makes the initrd of twinkeel-init and the kernel's modules.
func (b *build) firstStage(ctx context.Context, version string) ([]byte, error) {
	m, err := b.modules(version)
	if err != nil {
		return nil, err
	}
	list, err := m.order(append(slices.Concat(required, b.o.Modules), usual...), len(required)+len(b.o.Modules))
	if err != nil {
		return nil, err
	}
	var a cpio.Archive
	for _, dir := range []string{"dev", "mnt", "modules", "proc", "run", "sys", "sysroot"} {
		a.Add(dir, cpio.Directory|0o755, nil)
	}
	program, err := b.content(FirstStage)
	if err != nil {
		return nil, err
	}
	a.Add("init", cpio.Regular|0o755, program)
	for i, name := range list {
		content, err := b.content(m.dir + "/" + name)
		if err != nil {
			return nil, err
		}
		if content, err = unpack(ctx, content); err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
		a.Add(fmt.Sprintf("modules/%03d-%s.ko", i, moduleName(name)), cpio.Regular|0o644, content)
	}
	return a.Bytes(), nil
}

// moduleTree is what depmod wrote of a kernel's modules.
type moduleTree struct {
	dir     string              // in the source
	files   map[string]string   // by name, relative to dir
	needs   map[string][]string // by file: files, those to load first last
	before  map[string][]string // by name: modules or aliases that it asks the kernel for as it starts, or later
	aliases map[string][]string // by alias: names
	builtin map[string]bool     // by name
}

// moduleName is the name of the module in a file, in which - and _ are one.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func (b *build) modules(version string) (m moduleTree, err error) {
	m = moduleTree{dir: "usr/lib/modules/" + version, files: map[string]string{}, needs: map[string][]string{},
		before: map[string][]string{}, aliases: map[string][]string{}, builtin: map[string]bool{}}
	if _, ok := b.tree.Lookup(m.dir); !ok {
		m.dir = "lib/modules/" + version
	}
	dep, err := b.content(m.dir + "/modules.dep")
	if err != nil {
		return m, fmt.Errorf("%w: run depmod", err)
	}
	for line := range strings.Lines(string(dep)) {
		file, needs, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return m, fmt.Errorf("modules.dep: got %.80q, want FILE: FILE…", line)
		}
		m.files[moduleName(file)], m.needs[file] = file, strings.Fields(needs)
	}
	builtin, err := b.content(m.dir + "/modules.builtin")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(builtin)) {
		m.builtin[moduleName(strings.TrimSpace(line))] = true
	}
	return m, b.soft(m)
}

// soft reads what modules ask the kernel for by name, such as libcrc32c for crc32c: no file
// needs it, and in an initrd without modprobe nobody brings it. Sources: modprobe.d(5),
// "softdep", and what depmod writes into modules.softdep and modules.alias.
func (b *build) soft(m moduleTree) error {
	for _, f := range []struct {
		name string
		take func(words []string)
	}{
		{"modules.softdep", func(words []string) {
			if words[0] != "softdep" || words[2] != "pre:" {
				return
			}
			name, list := moduleName(words[1]), words[3:]
			if i := slices.Index(list, "post:"); i >= 0 {
				list = list[:i]
			}
			m.before[name] = append(m.before[name], list...)
		}},
		{"modules.alias", func(words []string) {
			if words[0] == "alias" && !strings.ContainsAny(words[1], "*?[") {
				m.aliases[words[1]] = append(m.aliases[words[1]], moduleName(words[2]))
			}
		}},
	} {
		if _, ok := b.tree.Lookup(m.dir + "/" + f.name); !ok {
			continue
		}
		content, err := b.content(m.dir + "/" + f.name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(content)) {
			if words := strings.Fields(line); len(words) >= 3 {
				f.take(words)
			}
		}
	}
	return nil
}

// order returns the files of the named modules, each behind those that it needs. The first
// must of them have to be there.
func (m moduleTree) order(names []string, must int) (list []string, err error) {
	begun := map[string]bool{}
	for i, name := range names {
		name = moduleName(name)
		file, ok := m.files[name]
		if !ok {
			if i < must && !m.builtin[name] {
				return nil, fmt.Errorf("kernel: has no module %s", name)
			}
			continue
		}
		list = m.collect(list, file, begun)
	}
	return list, nil
}

// collect appends a file to list, behind those that it needs; begun are the files that are
// in it, or on their way.
func (m moduleTree) collect(list []string, file string, begun map[string]bool) []string {
	if begun[file] {
		return list
	}
	begun[file] = true
	var first []string
	for _, name := range m.before[moduleName(file)] {
		for _, n := range append([]string{moduleName(name)}, m.aliases[name]...) {
			if f, ok := m.files[n]; ok {
				first = append(first, f)
			}
		}
	}
	needs := slices.Clone(m.needs[file])
	slices.Reverse(needs) // depmod has those that everything needs last
	for _, f := range append(first, needs...) {
		list = m.collect(list, f, begun)
	}
	return append(list, file)
}
