package report

import (
	"bytes"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/partitions"
)

// The words by which a log says which boot it is of: the loader's own, so that the line in
// which the kernel repeats its command line says it, too.
const (
	wordSlot    = "twinkeel.slot="
	wordRoot    = "twinkeel.roothash="
	wordVersion = "twinkeel.version="
)

// Mark is the line that says in a boot's log which boot it is. A kernel that panics saves
// only the end of its log, so it has to be there again and again.
func Mark(b Boot) string {
	return "this boot is " + wordSlot + b.Slot.String() + " " + wordVersion + b.word() + " " + wordRoot + b.Root.String()
}

// markWithin is how far from the end of a log its mark may be, in bytes, so that a panic
// and what comes before it still leave the mark in what is saved: by default that is 10 KiB.
const markWithin = 3 << 10

// Marked reports whether the end of a log says which boot it is of.
func Marked(log []byte) bool {
	_, ok := bootOf(tail(log, markWithin))
	return ok
}

// bootOf returns which boot a log is of, by the last line that says so.
func bootOf(log []byte) (b Boot, ok bool) {
	if !bytes.Contains(log, []byte(wordRoot)) {
		return b, false
	}
	for _, line := range slices.Backward(strings.Split(string(log), "\n")) {
		if b, ok = bootOfLine(line); ok {
			return b, true
		}
	}
	return b, false
}

func bootOfLine(line string) (b Boot, ok bool) {
	if !strings.Contains(line, wordRoot) {
		return b, false
	}
	var slot, root bool
	for _, w := range strings.Fields(line) {
		if v, is := strings.CutPrefix(w, wordSlot); is {
			s, err := partitions.ParseSlot(v)
			b.Slot, slot = s, err == nil
		} else if v, is := strings.CutPrefix(w, wordRoot); is {
			root = b.Root.UnmarshalText([]byte(v)) == nil
		} else if v, is := strings.CutPrefix(w, wordVersion); is {
			b.Version = v
		}
	}
	return b, slot && root
}
