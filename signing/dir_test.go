package signing_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/internal/durable"
)

// disk is a durable.Dir in memory whose power can be cut at any effect.
type disk struct {
	files   map[string][]byte
	effects int // so far
	// cutAt is the number of the effect at which the power goes, 0 for never; lands
	// says whether that effect is on the disk afterwards.
	cutAt int
	lands bool
	// once ends the effect at cutAt alone, as an error of the disk does that passes.
	once bool
	// before is what the disk held before that effect.
	before map[string][]byte
	// broken makes every write fail, as a disk that is full or read-only does.
	broken error
}

var errPower = errors.New("power cut")

func newDisk() *disk { return &disk{files: map[string][]byte{}} }

// restart brings the power back.
func (d *disk) restart() { d.effects, d.cutAt = 0, 0 }

// effect counts one durable effect and carries it out unless the power is gone.
func (d *disk) effect(do func()) error {
	if d.broken != nil {
		return d.broken
	}
	d.effects++
	if d.cutAt == 0 || d.effects < d.cutAt || d.once && d.effects > d.cutAt {
		do()
		return nil
	}
	if d.effects == d.cutAt && d.lands {
		d.before = maps.Clone(d.files)
		do()
	}
	return errPower
}

func (d *disk) Read(name string) ([]byte, error) {
	b, ok := d.files[name]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	if len(b) > durable.MaxFile {
		return nil, fmt.Errorf("read %s: too large", name)
	}
	return bytes.Clone(b), nil
}

func (d *disk) Replace(name string, data []byte) error {
	if err := durable.CheckFileName(strings.ReplaceAll(name, "/", "")); err != nil {
		return err
	}
	if len(data) > durable.MaxFile {
		return fmt.Errorf("replace %s: too large", name)
	}
	return d.effect(func() { d.files[name] = bytes.Clone(data) })
}

func (d *disk) Remove(name string) error {
	if _, ok := d.files[name]; !ok {
		return nil
	}
	return d.effect(func() { delete(d.files, name) })
}

func (d *disk) List() ([]string, error) { return d.list(""), nil }

func (d *disk) list(prefix string) []string {
	var out []string
	for name := range d.files {
		if rest, ok := strings.CutPrefix(name, prefix); ok && !strings.Contains(rest, "/") {
			out = append(out, rest)
		}
	}
	slices.Sort(out)
	return out
}

func (d *disk) Lock() (func(), error) { return func() {}, nil }

func (d *disk) Sub(name string) (durable.Dir, error) { return subDisk{d, name + "/"}, nil }

// subDisk is a sub-directory of a disk.
type subDisk struct {
	*disk
	prefix string
}

func (s subDisk) Read(name string) ([]byte, error)       { return s.disk.Read(s.prefix + name) }
func (s subDisk) Replace(name string, data []byte) error { return s.disk.Replace(s.prefix+name, data) }
func (s subDisk) Remove(name string) error               { return s.disk.Remove(s.prefix + name) }
func (s subDisk) List() ([]string, error)                { return s.disk.list(s.prefix), nil }
