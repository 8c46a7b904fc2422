package bootloadertest

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// dirPrefix tells the directory's files from blocks.
const dirPrefix = "dir/"

// Dir is a flat directory on a disk, as a FAT keeps one: a cut while names change can
// leave the old name, the new one, both or neither, and a new file empty, whole or full of
// whatever lay there before. Content changes like that of a block.
type Dir struct {
	d *Disk
}

// Dir returns the directory of the disk.
func (d *Disk) Dir() *Dir { return &Dir{d} }

// List returns the names of all files.
func (f *Dir) List() ([]string, error) {
	if f.d.left == 0 {
		return nil, errPower
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(f.d.durable)) {
		if name, ok := strings.CutPrefix(name, dirPrefix); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Read returns the content of a file.
func (f *Dir) Read(name string) ([]byte, error) {
	b, ok := f.d.durable[dirPrefix+name]
	if f.d.left == 0 {
		return nil, errPower
	}
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return bytes.Clone(b), nil
}

// Write changes sectors of a file, durably.
func (f *Dir) Write(name string, p []byte, off int64) error {
	if _, err := f.Read(name); err != nil {
		return err
	}
	b := f.d.Block(dirPrefix + name)
	if _, err := b.WriteAt(p, off); err != nil {
		return err
	}
	return b.Flush()
}

// Make makes a file, durably.
func (f *Dir) Make(name string, content []byte) error {
	if f.d.durable[dirPrefix+name] != nil {
		return fmt.Errorf("%s: %w", name, fs.ErrExist)
	}
	stale := bytes.Clone(content)
	noise(stale)
	return f.change(map[string][]byte{name: bytes.Clone(content)}, map[string][]byte{name: {}}, map[string][]byte{name: stale})
}

// Remove removes a file, durably.
func (f *Dir) Remove(name string) error {
	if _, err := f.Read(name); err != nil {
		return err
	}
	return f.change(map[string][]byte{name: nil})
}

// Rename renames a file, durably: what a loader does that counts in names.
func (f *Dir) Rename(from, to string) error {
	b, err := f.Read(from)
	if err != nil {
		return err
	}
	return f.change(map[string][]byte{from: nil, to: b}, map[string][]byte{to: b}, map[string][]byte{from: nil})
}

// change sets files, or removes those whose content is nil; others are what a cut can
// leave instead, beside all and nothing.
func (f *Dir) change(all map[string][]byte, others ...map[string][]byte) error {
	if f.d.frozen {
		return nil
	}
	outcomes := append([]map[string][]byte{{}, all}, others...)
	f.d.pending = append(f.d.pending, write{names: func(base *Disk) (out []*Disk) {
		for _, files := range outcomes {
			c := base.clone()
			c.set(files)
			out = append(out, c)
		}
		return out
	}})
	if err := f.d.effect(); err != nil {
		return err
	}
	if err := f.d.effect(); err != nil {
		return err
	}
	f.d.flush()
	f.d.set(all)
	return nil
}

// set changes files at once.
func (d *Disk) set(files map[string][]byte) {
	for name, b := range files {
		if b == nil {
			delete(d.durable, dirPrefix+name)
		} else {
			d.durable[dirPrefix+name] = bytes.Clone(b)
		}
	}
}
