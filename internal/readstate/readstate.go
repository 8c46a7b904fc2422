package readstate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/simulated"
)

// Reader reads one state after the other.
type Reader struct {
	command string // twinkeel
	dir     string
	config  string // but for the state's directory
	had     bool   // there was a state
	sound   map[[32]byte]bool
}

// New makes a reader with a directory of its own, which has to be there. Channel and compatible are as the
// machine's configuration has them; slots are files as large as the roots of slots a and b.
func New(ctx context.Context, command, dir, channel, compatible string, slots [2]string) (*Reader, error) {
	path := filepath.Join(dir, "stand-in")
	if err := os.WriteFile(path, make([]byte, simulated.Size), 0o644); err != nil {
		return nil, err
	}
	f, err := simulated.OpenFile(path)
	if err != nil {
		return nil, err
	}
	// To read its state an agent has to know what runs.
	var s bootloader.State
	if err := simulated.Create(f, s.Commit(partitions.A), map[partitions.Slot]bootloader.Description{partitions.A: {}}); err != nil {
		return nil, err
	}
	if _, err := simulated.New(f).PowerOn(ctx, "readstate", nil); err != nil {
		return nil, err
	}
	config := fmt.Sprintf("server = \"http://127.0.0.1:1\"\nchannel = %q\ncompatible = %q\nsocket = %q\nslots.a.root = %q\nslots.b.root = %q\n"+
		"boot.loader = \"simulated\"\nboot.path = %q\n", channel, compatible, filepath.Join(dir, "s"), slots[0], slots[1], path)
	return &Reader{command: command, dir: dir, config: config, sound: map[[32]byte]bool{}}, nil
}

// Read reads a state, if none before it was the same. One that is not there is right until the first
// was. What is read may be changed.
func (r *Reader) Read(ctx context.Context, state string) error {
	if _, err := os.Stat(state); errors.Is(err, os.ErrNotExist) && !r.had {
		return nil
	}
	h := sha256.New()
	err := filepath.WalkDir(state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(b), b)
		return err
	})
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	r.had = true
	sum := [32]byte(h.Sum(nil))
	if r.sound[sum] {
		return nil
	}
	config := filepath.Join(r.dir, "twinkeel.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "state = %q\n%s", state, r.config), 0o644); err != nil {
		return err
	}
	for _, verb := range []string{"status", "history"} {
		out, err := exec.CommandContext(ctx, r.command, "--config", config, "--json", verb).CombinedOutput()
		// Of a damaged file that it can do without it only says so.
		bad := []string{`"code": "state"`, `"code": "loader"`, "damaged"}
		if err != nil || slices.ContainsFunc(bad, func(w string) bool { return bytes.Contains(out, []byte(w)) }) {
			return fmt.Errorf("state, as %s reads it: %s, %w", verb, out, err)
		}
	}
	r.sound[sum] = true
	return nil
}

// States is how many different ones were read.
func (r *Reader) States() int { return len(r.sound) }
