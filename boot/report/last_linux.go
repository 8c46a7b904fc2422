package report

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// Places are where a log of an earlier boot may be.
type Places struct {
	Kept   string   // directory of what Save kept
	Pstore []string // directories of what kernels saved themselves
}

// Host returns the places of a running host: the data partition, as the first stage
// mounts it; what systemd took from pstore; and pstore.
func Host() Places {
	return Places{Kept: "/data/twinkeel", Pstore: []string{"/var/lib/systemd/pstore", "/sys/fs/pstore"}}
}

// Last returns the end of the kernel's log of the last boot of a slot with this root, for
// people: at most MaxShown bytes, the first line saying where it comes from. What a kernel
// saved in its panic comes before what the guard kept, if it was written after; nil if
// there is neither.
func (p Places) Last(slot partitions.Slot, root release.Digest, after time.Time) []string {
	if log := p.panicked(after); log != nil {
		return show("saved by the kernel, in pstore", log)
	}
	boot, log, err := kept(p.Kept, slot)
	if err != nil || boot.Root != root {
		return nil
	}
	return show("slot "+slot.String()+", "+since(boot.Uptime)+" after its kernel began", log)
}

// Bounds of what is looked at in pstore.
const (
	maxFiles = 256
	maxDepth = 3 // of what systemd makes of it
)

// panicked returns what kernels saved after a time, in the first place that has any.
func (p Places) panicked(after time.Time) []byte {
	for _, dir := range p.Pstore {
		left := maxFiles
		if log := collect(dir, after, maxDepth, &left); len(log) > 0 {
			return tail(log, MaxSaved)
		}
	}
	return nil
}

// collect puts the files of a directory together. Firmware that holds little at a time gets
// a log in parts, the end first, whose names count up: the last name has the oldest lines.
func collect(dir string, after time.Time, depth int, left *int) (log []byte) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	// Of what systemd put together, the parts are not needed.
	whole := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "dmesg.txt" })
	for _, e := range slices.Backward(entries) {
		if *left--; *left < 0 {
			return log
		}
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			if depth > 1 {
				log = append(log, collect(path, after, depth-1, left)...)
			}
			continue
		}
		if !strings.HasPrefix(e.Name(), "dmesg") || whole && e.Name() != "dmesg.txt" {
			continue
		}
		b, at, err := readFile(path, MaxSaved)
		if err != nil || at.Before(after) {
			continue
		}
		log = append(log, b...)
		if len(b) > 0 && b[len(b)-1] != '\n' {
			log = append(log, '\n')
		}
	}
	return log
}

// show makes a log what people read: text, in bounded lines.
func show(from string, log []byte) []string {
	lines, room := []string{}, MaxShown
	text := strings.TrimRight(strings.ToValidUTF8(string(tail(log, MaxShown)), "\uFFFD"), "\n")
	for _, l := range slices.Backward(strings.Split(text, "\n")) {
		l = strings.TrimRight(l, "\r ")
		if len(l) > maxLine {
			l = strings.ToValidUTF8(l[:maxLine], "") + "…"
		}
		if room -= len(l); room < 0 {
			break
		}
		if l != "" {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	lines = append(lines, "kernel: "+from)
	slices.Reverse(lines)
	return lines
}
