package crashrig

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/durable"
)

// FileSystem is a kind of file system that the kernel mounts.
type FileSystem struct {
	Name string   // for mount
	Make []string // command that makes one; the file is added
	Size int64    // of its image, bytes
}

// FileSystems lists those that the rig knows.
func FileSystems() []FileSystem {
	return []FileSystem{
		{"ext4", []string{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"}, 16 << 20},
		{"xfs", []string{"mkfs.xfs", "-q", "-f"}, 300 << 20},
		{"btrfs", []string{"mkfs.btrfs", "-q", "-f"}, 112 << 20},
	}
}

// Result is what the states of one file system came to.
type Result struct {
	FileSystem      string
	States          int
	Writes, Flushes int // of the workload
	Lost            int // states in which something acknowledged was gone
	Torn            int // states with content that nobody wrote, or that could not be mounted
	First           string
}

// Replacer is how the workload writes: durable's way, or, to show that the rig sees
// losses, a way that promises less.
type Replacer func(dir string, d durable.Dir, name string, data []byte) error

// Durable is the way under test.
func Durable(_ string, d durable.Dir, name string, data []byte) error { return d.Replace(name, data) }

// Renamed writes, syncs and renames, and does not sync the directory.
func Renamed(dir string, _ durable.Dir, name string, data []byte) error {
	tmp := filepath.Join(dir, "."+name)
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, name))
}

// change is one operation of the workload.
type change struct {
	name          string
	data          []byte // nil: removed
	began, ackned int    // entries of the record then
}

// Run makes a file system, lets the workload write, and looks at n crash states. It works
// in dir, which should lie in memory.
func Run(dir string, fs FileSystem, write Replacer, n int, seed uint64) (Result, error) {
	r := Result{FileSystem: fs.Name, States: n}
	if err := available(); err != nil {
		return r, err
	}
	file := filepath.Join(dir, "image")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return r, err
	}
	if err := os.Truncate(file, fs.Size); err != nil {
		return r, err
	}
	if out, err := exec.Command(fs.Make[0], append(slices.Clone(fs.Make[1:]), file)...).CombinedOutput(); err != nil {
		return r, fmt.Errorf("%s: %w: %s", fs.Make[0], err, out)
	}
	image, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	d := NewDisk(image)
	changes, err := record(dir, fs, d, write)
	if err != nil {
		return r, err
	}
	r.Writes, r.Flushes = d.Writes()
	return r, states(dir, fs, file, d, changes, &r, seed)
}

// record lets the workload write through the kernel into the disk's record.
func record(dir string, fs FileSystem, d *Disk, write Replacer) (changes []change, err error) {
	top := filepath.Join(dir, "fuse")
	if err := os.MkdirAll(top, 0o700); err != nil {
		return nil, err
	}
	path, stop, err := Serve(top, d)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	err = mounted(dir, fs, path, func(_ string, at string) error {
		state := filepath.Join(at, "state")
		dd, err := durable.OpenDir(state, true)
		if err != nil {
			return err
		}
		changes, err = workload(state, dd, d, write)
		return err
	})
	return changes, err
}

// workload replaces and removes a few files, again and again.
func workload(state string, dd durable.Dir, d *Disk, write Replacer) ([]change, error) {
	var changes []change
	for i := range 36 {
		c := change{name: fmt.Sprintf("file-%d", i%4), began: d.Now()}
		var err error
		if i%9 == 8 {
			err = dd.Remove(c.name)
		} else {
			c.data = bytes.Repeat(fmt.Appendf(nil, "%s, generation %06d\n", c.name, i), 20+i*17%300)
			err = write(state, dd, c.name, c.data)
		}
		if err != nil {
			return nil, err
		}
		c.ackned = d.Now()
		changes = append(changes, c)
	}
	return changes, nil
}

// states builds and looks at the crash states.
func states(dir string, fs FileSystem, file string, d *Disk, changes []change, r *Result, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0x72696721))
	first, last := changes[0].ackned, changes[len(changes)-1].ackned
	for i := range r.States {
		at := first + rng.IntN(last-first+1)
		if err := os.WriteFile(file, d.Crash(at, rng), 0o600); err != nil {
			return err
		}
		var wrong []string
		err := mounted(dir, fs, file, func(_, mnt string) error {
			var lost bool
			lost, wrong = judge(filepath.Join(mnt, "state"), changes, at)
			if lost {
				r.Lost++
			}
			return nil
		})
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		if err != nil || slices.ContainsFunc(wrong, func(w string) bool { return strings.HasPrefix(w, "torn") }) {
			r.Torn++
		}
		if len(wrong) > 0 && r.First == "" {
			r.First = fmt.Sprintf("state %d, entry %d: %s", i, at, strings.Join(wrong, "; "))
		}
	}
	return nil
}

// judge compares the files with what was acknowledged when the record had so many entries.
func judge(state string, changes []change, at int) (lost bool, wrong []string) {
	d, err := durable.OpenDir(state, false)
	if err != nil {
		return true, []string{err.Error()}
	}
	for k := range 4 {
		name := fmt.Sprintf("file-%d", k)
		got, _ := d.Read(name) // absent is nil, as removed is
		sure := -1
		for i, c := range changes {
			if c.name == name && c.ackned <= at {
				sure = i
			}
		}
		known, fits := got == nil, sure < 0 && got == nil
		for i, c := range changes {
			if c.name != name || !bytes.Equal(c.data, got) || (c.data == nil) != (got == nil) {
				continue
			}
			known = true
			fits = fits || i >= sure && c.began <= at
		}
		switch {
		case !known:
			wrong = append(wrong, fmt.Sprintf("torn: %s has %d bytes that nobody wrote", name, len(got)))
		case !fits:
			lost = true
			wrong = append(wrong, fmt.Sprintf("lost: %s is not what was acknowledged", name))
		}
	}
	return lost, wrong
}

// mounted attaches a file to a loop device and mounts it while f works.
func mounted(dir string, fs FileSystem, file string, f func(device, at string) error) (err error) {
	at := filepath.Join(dir, "mnt")
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("losetup %s: %w: %s", file, err, out)
	}
	device := strings.TrimSpace(string(out))
	defer func() {
		if out, lerr := exec.Command("losetup", "--detach", device).CombinedOutput(); lerr != nil {
			err = errors.Join(err, fmt.Errorf("losetup --detach %s: %w: %s", device, lerr, out))
		}
	}()
	if err := unix.Mount(device, at, fs.Name, unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", fs.Name, err)
	}
	err = f(device, at)
	return errors.Join(err, unix.Unmount(at, 0))
}
