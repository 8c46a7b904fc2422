package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
)

const progressFormat = 1

// progress is which cases of one seed are over, in one sitting or many, each of which may be at another
// commit. A case's chance comes from the seed and its name alone, so that cases of a run that was ended
// need not be told again. It is what a file of progress holds.
type progress struct {
	Format int      `json:"format"`
	Seed   uint64   `json:"seed"`
	Cases  []result `json:"cases"`

	name string // of the file; "": none is kept
}

// result is how a case ended.
type result struct {
	Name       string    `json:"name"`
	Commit     string    `json:"commit"`
	Error      string    `json:"error,omitempty"`
	Boots      int       `json:"boots"`
	CPUSeconds float64   `json:"cpuSeconds"`
	Landed     []landing `json:"landed,omitempty"`
	Ended      time.Time `json:"ended"`
}

// resume reads a file of progress, if there is one, and refuses one whose seed is not the one that was
// asked for.
func resume(name string, seed uint64, seeded bool) (p progress, err error) {
	p = progress{Format: progressFormat, Seed: seed, name: name}
	if name == "" {
		return p, nil
	}
	dir, err := durable.OpenDir(filepath.Dir(name), true)
	if err != nil {
		return p, fmt.Errorf("progress: %w", err)
	}
	b, err := dir.Read(filepath.Base(name))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	was := progress{name: name}
	if err := errors.Join(err, json.Unmarshal(b, &was)); err != nil {
		return p, fmt.Errorf("progress %s: %w", name, err)
	}
	if was.Format != p.Format || seeded && was.Seed != seed {
		return p, fmt.Errorf("progress %s: it was begun with format %d and seed %d, this is %d and %d; go on with that one, or begin another file",
			name, was.Format, was.Seed, p.Format, seed)
	}
	return was, nil
}

// over adds the result of a case, and writes the file.
func (p *progress) over(r result) error {
	p.Cases = append(p.Cases, r)
	if p.name == "" {
		return nil
	}
	b, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return err
	}
	dir, err := durable.OpenDir(filepath.Dir(p.name), false)
	if err != nil {
		return err
	}
	return dir.Replace(filepath.Base(p.name), append(b, '\n'))
}

// of returns the result of a case that is over. One that failed at another commit is told again.
func (p *progress) of(name, commit string) (result, bool) {
	for _, r := range slices.Backward(p.Cases) {
		if r.Name == name {
			return r, r.Error == "" || r.Commit == commit
		}
	}
	return result{}, false
}

// commits says at which commits the cases were told.
func (p *progress) commits() string {
	count := map[string]int{}
	for _, r := range p.Cases {
		count[r.Commit]++
	}
	var list []string
	for _, commit := range slices.Sorted(maps.Keys(count)) {
		list = append(list, fmt.Sprintf("%d at %s", count[commit], commit))
	}
	return strings.Join(list, ", ")
}

// revision names the commit that is checked out, and says if anything but documents, of which a file of
// progress may be one, was changed since.
func revision(ctx context.Context) (string, error) {
	name, err := exec.CommandContext(ctx, "git", "describe", "--always").Output()
	if err != nil {
		return "", fmt.Errorf("commit: %w", err)
	}
	commit := strings.TrimSpace(string(name))
	var exit *exec.ExitError
	err = exec.CommandContext(ctx, "git", "diff", "--quiet", "HEAD", "--", ".", ":(exclude)docs").Run()
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return commit + "-dirty", nil
	}
	return commit, err
}
