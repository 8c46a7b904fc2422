package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/twinkeel/twinkeel/internal/durable"
)

// Errors of a directory in a bad state.
var (
	ErrReadOnly = errors.New("read-only file system")
	ErrNoSpace  = errors.New("no space left on device")
)

// Dir is a directory whose Replace is the four effects of the real one: write beside,
// sync the file, rename, sync the directory. It implements durable.Dir.
type Dir struct {
	// ReadOnly and Full make every change fail, as a mount or a disk does.
	ReadOnly bool
	Full     bool

	w      *World
	name   string
	stable map[string][]byte // survives a power cut
	view   map[string][]byte // what a reader sees
	names  []nameOp          // since the last directory sync, in order
	list   []string          // the names in view, sorted; nil: not known
	subs   map[string]*Dir
	locked bool
	top    *Dir // whose ReadOnly and Full count
}

// nameOp is a change of the directory itself: a rename over name, or its removal.
type nameOp struct {
	name   string
	data   []byte
	remove bool
}

// NewDir adds an empty directory to the world.
func (w *World) NewDir(name string) *Dir {
	d := &Dir{w: w, name: name, stable: map[string][]byte{}, view: map[string][]byte{}, subs: map[string]*Dir{}}
	d.top = d
	w.parts = append(w.parts, d)
	return d
}

// Read implements durable.Dir.
func (d *Dir) Read(name string) ([]byte, error) {
	if err := durable.CheckFileName(name); err != nil {
		return nil, err
	}
	if err := d.w.call(op{verb: "read", name: d.name, file: name}); err != nil {
		return nil, err
	}
	b, ok := d.view[name]
	if !ok {
		return nil, missing{d.name, name}
	}
	if d.w.Quiet {
		// Readers leave it as it is: a history that is replayed gives them copies, and has to
		// be the same.
		return slices.Clip(b), nil
	}
	return slices.Clone(b), nil
}

// missing is the error of a file that is not there.
type missing struct{ dir, file string }

func (m missing) Error() string { return fmt.Sprintf("read %s/%s: %v", m.dir, m.file, fs.ErrNotExist) }

func (m missing) Is(err error) bool { return err == fs.ErrNotExist }

// usable refuses a change while the file system takes none.
func (d *Dir) usable(name string) error {
	switch {
	case d.top.ReadOnly:
		return fmt.Errorf("change %s/%s: %w", d.name, name, ErrReadOnly)
	case d.top.Full:
		return fmt.Errorf("change %s/%s: %w", d.name, name, ErrNoSpace)
	}
	return durable.CheckFileName(name)
}

// Replace implements durable.Dir.
func (d *Dir) Replace(name string, data []byte) error {
	if err := d.usable(name); err != nil {
		return err
	}
	if len(data) > durable.MaxFile {
		return fmt.Errorf("replace %s/%s: got %d bytes, want at most %d", d.name, name, len(data), durable.MaxFile)
	}
	// Until its rename the temporary file is nothing that anybody looks at, so what
	// these two leave behind at a cut needs no model.
	for _, what := range []string{"write temporary", "sync temporary"} {
		if err := d.w.effect(op{verb: what, name: d.name, file: name}); err != nil {
			return err
		}
	}
	if err := d.w.effect(op{verb: "rename", name: d.name, file: name}); err != nil {
		return err
	}
	d.apply(nameOp{name: name, data: slices.Clone(data)})
	return d.sync()
}

// Remove implements durable.Dir.
func (d *Dir) Remove(name string) error {
	if err := durable.CheckFileName(name); err != nil {
		return err
	}
	if _, ok := d.view[name]; !ok {
		return d.w.call(op{verb: "remove what is not there:", name: d.name, file: name})
	}
	if d.top.ReadOnly {
		return fmt.Errorf("remove %s/%s: %w", d.name, name, ErrReadOnly)
	}
	if err := d.w.effect(op{verb: "remove", name: d.name, file: name}); err != nil {
		return err
	}
	d.apply(nameOp{name: name, remove: true})
	return d.sync()
}

// apply makes a change that readers see at once and that is not durable yet.
func (d *Dir) apply(op nameOp) {
	if _, there := d.view[op.name]; op.remove || !there {
		d.list = nil
	}
	d.names = append(d.names, op)
	op.on(d.view)
}

func (op nameOp) on(files map[string][]byte) {
	if op.remove {
		delete(files, op.name)
		return
	}
	files[op.name] = op.data
}

// sync makes all name operations durable. If it fails, readers go on seeing them, any
// of them may have arrived, and a later sync that succeeds proves nothing.
func (d *Dir) sync() error {
	if err := d.w.effect(op{verb: "sync directory", name: d.name}); err != nil {
		d.mix()
		return err
	}
	if d.w.Profile == Lying && d.w.chance(100) {
		d.w.note("sync directory %s lies", d.name)
		return nil
	}
	d.settle()
	return nil
}

// List implements durable.Dir.
func (d *Dir) List() ([]string, error) {
	if err := d.w.call(op{verb: "list", name: d.name}); err != nil {
		return nil, err
	}
	return d.Names(), nil
}

// Lock implements durable.Dir.
func (d *Dir) Lock() (func(), error) {
	if err := d.w.call(op{verb: "lock", name: d.name}); err != nil {
		return nil, err
	}
	if d.locked {
		return nil, fmt.Errorf("lock %s: %w", d.name, durable.ErrLocked)
	}
	d.locked = true
	return func() { d.locked = false }, nil
}

// Sub implements durable.Dir.
func (d *Dir) Sub(name string) (durable.Dir, error) {
	if err := durable.CheckFileName(name); err != nil {
		return nil, err
	}
	if s, ok := d.subs[name]; ok {
		return s, d.w.call(op{verb: "open", name: s.name})
	}
	if err := d.usable(name); err != nil {
		return nil, err
	}
	// An empty directory that a cut takes away again is made again at the next start;
	// nothing was acknowledged in it.
	if err := d.w.effect(op{verb: "make directory", name: d.name, file: name}); err != nil {
		return nil, err
	}
	s := d.w.NewDir(d.name + "/" + name)
	s.top = d.top
	d.subs[name] = s
	return s, nil
}

// Wipe empties the directory and those below, as a lost or newly made file system is.
func (d *Dir) Wipe() {
	clear(d.stable)
	clear(d.view)
	d.names, d.list = nil, nil
	for _, s := range d.subs {
		s.Wipe()
	}
}

// Damage replaces what a file holds, as bit rot does.
func (d *Dir) Damage(name string, data []byte) {
	data = slices.Clone(data) // a file that was written never changes
	d.stable[name], d.view[name], d.list = data, data, nil
	for i, op := range d.names {
		if op.name == name && !op.remove {
			d.names[i].data = data // what a rename brings that is not durable yet rots with it
		}
	}
	d.w.note("%s/%s is spoilt", d.name, name)
}

// Names lists the files as a reader sees them, without a call of the world.
func (d *Dir) Names() []string {
	if d.list == nil {
		d.list = slices.Sorted(maps.Keys(d.view))
	}
	return slices.Clone(d.list)
}

// Below returns a directory below this one, without a call of the world, or nil.
func (d *Dir) Below(name string) *Dir { return d.subs[name] }

// Bytes returns a file as a reader sees it, or nil, without a call of the world.
func (d *Dir) Bytes(name string) []byte { return d.view[name] }

func (d *Dir) releaseLock() { d.locked = false }

func (d *Dir) unflushed() int { return len(d.names) }

func (d *Dir) settle() {
	for _, op := range d.names {
		op.on(d.stable)
	}
	d.names = d.names[:0]
}

func (d *Dir) crash(fate Fate) {
	switch fate {
	case Kept:
		d.settle()
	case Mixed:
		d.mix()
	case Chosen:
		for _, op := range d.names {
			if d.w.arrives() {
				op.on(d.stable)
			}
		}
	}
	d.names, d.list = nil, nil
	clear(d.view)
	for name, data := range d.stable {
		d.view[name] = data
	}
}

// mix lets any of the name operations arrive, or with an ordered file system the first
// ones; a rename itself is whole or not at all.
func (d *Dir) mix() {
	kept := d.w.rng.IntN(len(d.names) + 1)
	for i, op := range d.names {
		switch {
		case d.w.Profile == Ordered && i < kept, d.w.Profile != Ordered && d.w.chance(2):
			op.on(d.stable)
		}
	}
	d.names = nil
}
