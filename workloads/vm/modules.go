package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Needed are the modules of a guest's devices and file systems, as far as its kernel has
// not built them in.
var Needed = []string{"virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "erofs", "ext4"}

// The most that is read of a directory of modules.
const (
	maxIndex  = 4 << 20
	maxModule = 32 << 20
)

// Modules reads the modules of a kernel from their directory (lib/modules/VERSION), each
// behind those that it needs, by what depmod and the kernel's build wrote there. One that
// is neither there nor built in is an error.
func Modules(dir fs.FS, names []string) ([]Module, error) {
	needs, err := index(dir)
	if err != nil {
		return nil, err
	}
	builtin, err := read(dir, "modules.builtin", maxIndex)
	if err != nil {
		return nil, err
	}
	inside := map[string]bool{}
	for line := range strings.FieldsSeq(string(builtin)) {
		inside[moduleName(line)] = true
	}
	var files []string
	for _, name := range names {
		file, ok := needs.byName[name]
		if !ok {
			if inside[name] {
				continue
			}
			return nil, fmt.Errorf("kernel module %s: the kernel has it neither inside nor beside it", name)
		}
		// depmod lists what a module needs so that the last one comes first.
		list := slices.Clone(needs.byFile[file])
		slices.Reverse(list)
		for _, f := range append(list, file) {
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	var modules []Module
	for _, f := range files {
		b, err := read(dir, f, maxModule)
		if err != nil {
			return nil, err
		}
		modules = append(modules, Module{Name: path.Base(f), Content: b})
	}
	return modules, nil
}

// dependencies is modules.dep.
type dependencies struct {
	byName map[string]string   // file of a module
	byFile map[string][]string // files that it needs
}

func index(dir fs.FS) (dependencies, error) {
	d := dependencies{map[string]string{}, map[string][]string{}}
	b, err := read(dir, "modules.dep", maxIndex)
	if err != nil {
		return d, err
	}
	for line := range strings.Lines(string(b)) {
		file, needs, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return d, fmt.Errorf("modules.dep: got line %.80q, want file: files", line)
		}
		d.byName[moduleName(file)], d.byFile[file] = file, strings.Fields(needs)
	}
	return d, nil
}

// moduleName is what a module in a file is called.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func read(dir fs.FS, name string, most int64) ([]byte, error) {
	st, err := fs.Stat(dir, name)
	if errors.Is(err, fs.ErrInvalid) {
		err = fmt.Errorf("%.80q is no name of a file here", name)
	}
	if err != nil {
		return nil, fmt.Errorf("kernel modules: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() > most {
		return nil, fmt.Errorf("kernel modules: %s: got %s and %d bytes, want a file of at most %d", name, st.Mode(), st.Size(), most)
	}
	return fs.ReadFile(dir, name)
}
