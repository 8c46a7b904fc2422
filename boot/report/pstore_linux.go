package report

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Pstore is where the kernel shows what kernels before it saved.
const Pstore = "/sys/fs/pstore"

// Bounds of what is looked at in pstore.
const (
	maxFiles = 256
	maxDepth = 3 // of what systemd makes of it
)

// dump is what a kernel saved at once, in a panic or before it.
type dump struct {
	Boot
	log   []byte
	files []string
}

// Take moves what kernels saved in their panics from pstore to a directory on the data
// partition, and returns of which boots that was. What is moved is durable there before it
// is removed. Of boots with the same slot and root all dumps that are there are put
// together; of boots with different roots in one slot the newest is kept. What does not say
// which boot it is of is left for others.
func Take(pstore, dir string) (boots []Boot, err error) {
	newest := map[string]*dump{} // by the name of its file
	for _, d := range dumps(pstore) {
		files := d.files
		if was := newest[d.name()]; was != nil {
			files = append(was.files, files...)
			if was.Root == d.Root {
				d.log = append(was.log, d.log...)
			}
		}
		d.files, newest[d.name()] = files, &d
	}
	for _, d := range newest {
		if serr := Save(dir, d.Boot, d.log); serr != nil {
			err = errors.Join(err, serr)
			continue
		}
		boots = append(boots, d.Boot)
		for _, f := range d.files {
			err = errors.Join(err, os.Remove(f))
		}
	}
	return boots, err
}

// dumps returns all dumps below a directory that say which boot they are of, the oldest
// first.
func dumps(dir string) []dump {
	left := maxFiles
	list := collect(dir, maxDepth, &left)
	list = slices.DeleteFunc(list, func(d dump) bool { return d.Root.IsZero() })
	slices.SortStableFunc(list, func(a, b dump) int { return a.Panic.Compare(b.Panic) })
	return list
}

// record is one file of pstore.
type record struct {
	path  string
	at    time.Time
	bytes []byte
}

// collect puts the files of a directory together, and those below it.
func collect(dir string, depth int, left *int) (list []dump) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	// Of what systemd put together, the parts are not needed.
	whole := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "dmesg.txt" })
	var records []record
	for _, e := range slices.Backward(entries) { // the newest are looked at first
		if *left--; *left < 0 {
			break
		}
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			if depth > 1 {
				list = append(list, collect(path, depth-1, left)...)
			}
			continue
		}
		if !strings.HasPrefix(e.Name(), "dmesg") || whole && e.Name() != "dmesg.txt" {
			continue
		}
		if b, at, err := readFile(path, MaxSaved); err == nil {
			records = append(records, record{path, at, b})
		}
	}
	return append(list, join(records)...)
}

// partForm is the line with which the kernel begins each part of a dump.
var partForm = regexp.MustCompile(`(?m)^([A-Za-z ]+#[0-9]+) Part([0-9]+)$`)

// partOf returns which dump of its boot a record is of, and which part of it.
func partOf(b []byte) (label string, part int) {
	m := partForm.FindSubmatch(b[:min(len(b), 200)])
	if m == nil {
		return "", 1
	}
	part, err := strconv.Atoi(string(m[2]))
	if err != nil {
		return "", 1
	}
	return string(m[1]), part
}

// join makes dumps of records. Firmware that holds little at a time gets a log in parts, the
// end of the log first.
func join(records []record) []dump {
	slices.SortFunc(records, func(a, b record) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return strings.Compare(a.path, b.path)
	})
	var all []*dump
	open, parts := map[string]*dump{}, map[string]int{}
	for _, r := range records {
		label, part := partOf(r.bytes)
		d := open[label]
		if d == nil || part != parts[label]+1 {
			d = &dump{}
			all, open[label] = append(all, d), d
		}
		parts[label] = part
		text := r.bytes
		if len(text) > 0 && text[len(text)-1] != '\n' {
			text = append(text, '\n')
		}
		d.log = append(text, d.log...)
		d.files, d.Panic = append(d.files, r.path), r.at
	}
	list := make([]dump, 0, len(all))
	for _, d := range all {
		at := d.Panic
		if b, ok := bootOf(d.log); ok {
			d.Boot = b
		}
		d.Panic = at
		list = append(list, *d)
	}
	return list
}
