package report

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// Places are where a log of an earlier boot may be.
type Places struct {
	Kept   string   // directory of what Save and Take kept
	Pstore []string // directories of what kernels saved themselves, and nobody took yet
}

// Host returns the places of a running host: the data partition, as the first stage
// mounts it; what systemd took from pstore; and pstore.
func Host() Places {
	return Places{Kept: "/data/twinkeel", Pstore: []string{"/var/lib/systemd/pstore", Pstore}}
}

// Last returns the end of the kernel's log of the last boot of a slot with this root, for
// people: at most MaxShown bytes, the first line saying where it comes from. What a kernel
// saved in its panic, and says to be of that slot and root, comes before what the guard
// kept, if it was not saved before the given time; nil if there is neither. Last also says
// when the newest of these panics was, to the second: zero if there is none. A kernel saves
// its log in an oops, too, and lives on: that is shown, and is no panic.
func (p Places) Last(slot partitions.Slot, root release.Digest, after time.Time) (lines []string, panicked time.Time) {
	var last Boot
	var words []byte
	take := func(b Boot, log []byte) {
		if b.Slot != slot || b.Root != root || b.Panic.Before(after) {
			return
		}
		if !b.Panic.Before(last.Panic) {
			last, words = b, log
		}
		if at := b.Panic.UTC().Truncate(time.Second); at.After(panicked) && panicForm.Match(log) {
			panicked = at
		}
	}
	for _, dir := range p.Pstore {
		for _, d := range dumps(dir) {
			take(d.Boot, d.log)
		}
	}
	if boot, log, err := kept(p.Kept, panicFile(slot)); err == nil {
		take(boot, log)
	}
	if words != nil {
		return show("slot "+slot.String()+", saved by the kernel in its panic", words), panicked
	}
	boot, log, err := kept(p.Kept, logFile(slot))
	if err != nil || boot.Root != root {
		return nil, time.Time{}
	}
	return show("slot "+slot.String()+", "+since(boot.Uptime)+" after its kernel began", log), time.Time{}
}

// panicForm is what tells the log of a panic from that of an oops: the line with which the
// kernel begins a part of what it saves, or the panic's own. Sources of the format:
// linux/fs/pstore/platform.c, linux/kernel/panic.c.
var panicForm = regexp.MustCompile(`(?m)^Panic#[0-9]+ Part[0-9]+$|\bKernel panic - not syncing\b`)

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
