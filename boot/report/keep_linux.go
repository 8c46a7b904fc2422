package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// Boot is which boot a log is of.
type Boot struct {
	Slot    partitions.Slot
	Root    release.Digest // verity root of the slot's root image
	Version string         // for people
	Uptime  time.Duration  // when the log was taken
	Panic   time.Time      // when its kernel saved the log itself; zero: the guard did
}

// magic begins a kept log. Source of the format: docs/format-boot.md, "Kept log".
const magic = "twinkeel kernel log 1"

// maxHead bounds the first line of a kept log, in bytes.
const maxHead = 512

// logFile is the file in which the guard keeps the log of a slot.
func logFile(s partitions.Slot) string { return "kernel-" + s.String() + ".log" }

// panicFile is the file with what kernels of a slot saved in their panics.
func panicFile(s partitions.Slot) string { return "panic-" + s.String() + ".log" }

// name returns the name of the file that is kept of a boot.
func (b Boot) name() string {
	if b.Panic.IsZero() {
		return logFile(b.Slot)
	}
	return panicFile(b.Slot)
}

// Save keeps a log in a directory, in the place of the one before of the same slot. It is
// durable when Save returns, and never half there.
func Save(dir string, b Boot, log []byte) (err error) {
	head := fmt.Sprintf("%s slot=%s root=%s uptime=%s version=%s", magic, b.Slot, b.Root, since(b.Uptime), b.word())
	if !b.Panic.IsZero() {
		head += " panic=" + b.Panic.UTC().Format(time.RFC3339)
	}
	fresh := filepath.Join(dir, b.name()+".new")
	// It is the machine's own, and it can tell where the kernel's code lies in memory.
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append([]byte(head+"\n"), tail(log, MaxSaved)...))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, filepath.Join(dir, b.name())); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// word is the version as one word of a line.
func (b Boot) word() string {
	version := strings.Join(strings.Fields(b.Version), "")
	return version[:min(len(version), 100)]
}

// kept returns the log that is kept in a file with this name, if it is one.
func kept(dir, name string) (Boot, []byte, error) {
	b, _, err := readFile(filepath.Join(dir, name), maxHead+MaxSaved)
	if err != nil {
		return Boot{}, nil, err
	}
	boot, log, err := parse(b)
	if err == nil && boot.name() != name {
		err = fmt.Errorf("kept log %s: is %s", name, boot.name())
	}
	return boot, log, err
}

// parse takes a kept log apart.
func parse(b []byte) (boot Boot, log []byte, err error) {
	head, log, ok := bytes.Cut(b, []byte("\n"))
	words, isOne := strings.CutPrefix(string(head[:min(len(head), maxHead)]), magic+" ")
	if !ok || !isOne || len(head) > maxHead {
		return boot, nil, errors.New("kept log: got no head")
	}
	seen := map[string]string{}
	for _, w := range strings.Fields(words) {
		name, value, _ := strings.Cut(w, "=")
		seen[name] = value
	}
	slot, err := partitions.ParseSlot(seen["slot"])
	if err != nil {
		return boot, nil, fmt.Errorf("kept log: %w", err)
	}
	boot.Slot, boot.Version = slot, seen["version"]
	if err := boot.Root.UnmarshalText([]byte(seen["root"])); err != nil {
		return boot, nil, fmt.Errorf("kept log: root: %w", err)
	}
	if boot.Uptime, err = time.ParseDuration(seen["uptime"]); err != nil || boot.Uptime < 0 {
		return boot, nil, fmt.Errorf("kept log: uptime: got %.20q", seen["uptime"])
	}
	if at, ok := seen["panic"]; ok {
		if boot.Panic, err = time.Parse(time.RFC3339, at); err != nil || boot.Panic.IsZero() {
			return boot, nil, fmt.Errorf("kept log: panic: got %.40q", at)
		}
	}
	return boot, tail(log, MaxSaved), nil
}

// readFile reads the end of a regular file, at most limit bytes of it, and says when it
// was written.
func readFile(path string, limit int64) ([]byte, time.Time, error) {
	// Whatever lies in the place of a file, it is not waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if !st.Mode().IsRegular() {
		return nil, time.Time{}, fmt.Errorf("%s: is no file", path)
	}
	b, err := readTail(f, st.Size(), limit)
	return b, st.ModTime(), err
}
