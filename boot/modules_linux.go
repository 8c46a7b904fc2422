package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ModulesDir holds, in the initramfs, the kernel modules that the first stage loads:
// uncompressed files NN-name.ko, in the order of their names, each behind those that it
// needs.
const ModulesDir = "/modules"

// loadModules loads all modules of a directory; words of the kernel's command line of the
// form name.parameter=value are their parameters. One whose hardware is not there
// is passed over; any other that cannot be loaded is reported, and left out.
func loadModules(dir, cmdline string, say func(string, ...any)) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.ko")) // sorted
	if err != nil {
		return err
	}
	for _, path := range paths {
		_, name, ok := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".ko"), "-")
		if !ok {
			return fmt.Errorf("module %s: got no number before its name", path)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), parameters(cmdline, name), 0)
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			say("module %s: %v", name, err)
		}
		f.Close()
	}
	return nil
}

// parameters returns what the command line says of a module. In both, - and _ are one.
func parameters(cmdline, module string) string {
	var list []string
	same := strings.NewReplacer("-", "_")
	for _, word := range strings.Fields(cmdline) {
		if name, rest, ok := strings.Cut(word, "."); ok && same.Replace(name) == same.Replace(module) {
			list = append(list, rest)
		}
	}
	return strings.Join(list, " ")
}

// fileSystem is how a file system is known by its first bytes.
type fileSystem struct {
	kind   string
	offset int64
	magic  string
}

// fileSystems are those that a root, a data partition or a boot record may have. Sources:
// linux/include/uapi/linux/magic.h and the superblocks of each.
var fileSystems = []fileSystem{
	{"erofs", 1024, "\xe2\xe1\xf5\xe0"}, {"squashfs", 0, "hsqs"}, {"ext4", 1024 + 56, "\x53\xef"},
	{"xfs", 0, "XFSB"}, {"btrfs", 0x10040, "_BHRfS_M"}, {"vfat", 510, "\x55\xaa"},
}

// kindOf returns what kind of file system a device holds.
func kindOf(dev string) (string, error) {
	f, err := os.Open(dev)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, k := range fileSystems {
		b := make([]byte, len(k.magic))
		if _, err := f.ReadAt(b, k.offset); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if string(b) == k.magic {
			return k.kind, nil
		}
	}
	return "", errors.New("it holds no file system that is known")
}

// mountAny mounts a partition, whatever file system it holds; options go by its kind.
func mountAny(dev, dir string, flags uintptr, options map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	kind, err := kindOf(dev)
	if err == nil {
		err = unix.Mount(dev, dir, kind, flags, options[kind])
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", dev, err)
	}
	return nil
}
