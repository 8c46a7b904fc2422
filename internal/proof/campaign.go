package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/internal/sim/histories"
)

const (
	progressFormat = 2
	// batch is how many histories are lived through between two looks at the clock.
	batch = 2000
	// saveEvery is how long at least lies between two writes of the progress.
	saveEvery = time.Minute
)

// errInterrupted is in the chain of the error of a campaign that goes on another day.
var errInterrupted = errors.New("interrupted")

// campaign is how far the random histories have come: those of the seeds from First to
// First+Done-1, each lived through once. It is what a file of progress holds. The code may
// change between two sittings: each says of which commit it was.
type campaign struct {
	Format     int              `json:"format"`
	First      uint64           `json:"first"`
	Histories  uint64           `json:"histories"` // that are wanted
	Done       uint64           `json:"done"`
	Counts     histories.Counts `json:"counts"`
	CPUSeconds float64          `json:"cpuSeconds"`
	Broken     []broken         `json:"broken,omitempty"`
	Sittings   []sitting        `json:"sittings"`
}

// broken is a history that broke a law.
type broken struct {
	Seed   uint64 `json:"seed"`
	Law    string `json:"law"`
	Commit string `json:"commit"`           // whose code broke it
	Mended string `json:"mended,omitempty"` // commit of the first sitting in which it broke none
}

// sitting is one run of the command.
type sitting struct {
	Commit string    `json:"commit"`
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"` // as far as it was written down
	Done   uint64    `json:"done"`  // histories
}

// resumed returns the campaign that a file of progress tells of, or c if there is none. It
// refuses one of another range of seeds.
func (c campaign) resumed(dir durable.Dir, name string) (campaign, error) {
	b, err := dir.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("progress: %w", err)
	}
	var was campaign
	if err := json.Unmarshal(b, &was); err != nil {
		return c, fmt.Errorf("progress %s: %w", name, err)
	}
	refuse := func(what string, got, want any) error {
		return fmt.Errorf("progress %s: %s: it was begun with %v, this is %v; go on with that, or begin another file", name, what, got, want)
	}
	switch {
	case was.Format != c.Format:
		return c, refuse("format", was.Format, c.Format)
	case was.First != c.First || was.Histories != c.Histories:
		return c, refuse("seeds", fmt.Sprintf("%d of them from %d on", was.Histories, was.First), fmt.Sprintf("%d from %d on", c.Histories, c.First))
	case was.Done > was.Histories || was.Counts.Histories != int(was.Done):
		return c, fmt.Errorf("progress %s: %d histories of %d are done, and %d were counted", name, was.Done, was.Histories, was.Counts.Histories)
	}
	return was, nil
}

// again lives once more through the histories that broke a law and were not seen to hold
// since.
func (c *campaign) again(commit string, live func(seed uint64) (*histories.Outcome, error)) error {
	for i := range c.Broken {
		b := &c.Broken[i]
		if b.Mended != "" {
			continue
		}
		o, err := live(b.Seed)
		if err != nil {
			return err
		}
		if len(o.Broken) == 0 {
			b.Mended = commit
		}
	}
	return nil
}

// run lives through what is left, and saves how far it came every minute and at the end,
// whatever ends it. An end of ctx is errInterrupted.
func (c *campaign) run(ctx context.Context, commit string, live func(seed uint64) (*histories.Outcome, error), save func() error) error {
	if c.Done == c.Histories {
		return nil
	}
	began := time.Now().UTC().Truncate(time.Second)
	before, used := c.CPUSeconds, cpu()
	c.Sittings = append(c.Sittings, sitting{Commit: commit, Began: began, Ended: began})
	now := &c.Sittings[len(c.Sittings)-1]
	keep := func() error {
		now.Ended = time.Now().UTC().Truncate(time.Second)
		c.CPUSeconds = before + (cpu() - used).Seconds()
		return save()
	}
	for saved := time.Now(); c.Done < c.Histories; {
		done, err := c.some(ctx, commit, min(batch, c.Histories-c.Done), live)
		now.Done += done
		if err != nil || ctx.Err() != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("%w: %d of %d histories are done", errInterrupted, c.Done, c.Histories)
			}
			return errors.Join(err, keep())
		}
		if time.Since(saved) > saveEvery {
			if err := keep(); err != nil {
				return err
			}
			saved = time.Now()
		}
	}
	return keep()
}

// some lives through the next n histories, or through the first of them until ctx ends.
func (c *campaign) some(ctx context.Context, commit string, n uint64, live func(uint64) (*histories.Outcome, error)) (uint64, error) {
	first := c.First + c.Done
	outcomes := make([]*histories.Outcome, n)
	err := each(ctx, int(n), func(i int) (err error) {
		outcomes[i], err = live(first + uint64(i))
		return err
	})
	if ctx.Err() != nil {
		err = nil
	}
	// What was begun was ended, so that those that are done are the first ones.
	done := uint64(0)
	for i, o := range outcomes {
		if o == nil {
			break
		}
		done++
		if c.Counts.Add(o.Counts); len(o.Broken) > 0 {
			c.Broken = append(c.Broken, broken{Seed: first + uint64(i), Law: o.Broken[0], Commit: commit})
		}
	}
	c.Done += done
	return done, err
}

// write adds a section to the page.
func (c *campaign) write(w io.Writer, title string) {
	fmt.Fprintf(w, "\n## %s\n\nSeeds from %d to %d. Each has at least %d starts, %d power cuts and %d releases.",
		title, c.First, c.First+max(c.Done, 1)-1, histories.MinBoots, histories.MinCuts, histories.MinReleases)
	if c.Done < c.Histories {
		fmt.Fprintf(w, " **It is not at its end: %d are wanted.**", c.Histories)
	}
	fmt.Fprint(w, "\n\n| what | count |\n| --- | --- |\n")
	for _, row := range []struct {
		name string
		n    int
	}{
		{"histories", c.Counts.Histories}, {"starts of the machine", c.Counts.Starts}, {"boots that reached an agent", c.Counts.Boots},
		{"power cuts", c.Counts.Cuts}, {"kills of the agent", c.Counts.Kills}, {"releases offered", c.Counts.Releases},
		{"changes to the world", c.Counts.Effects}, {"calls of the world", c.Counts.Calls}, {"histories that broke a law", len(c.Broken)},
	} {
		fmt.Fprintf(w, "| %s | %d |\n", row.name, row.n)
	}
	fmt.Fprintf(w, "| processor seconds | %.0f |\n", c.CPUSeconds)
	if c.CPUSeconds > 0 {
		fmt.Fprintf(w, "| histories per processor minute | %.0f |\n", float64(c.Done)*60/c.CPUSeconds)
	}
	if len(c.Sittings) > 1 {
		fmt.Fprint(w, "\n| sitting began | commit | histories |\n| --- | --- | --- |\n")
		for _, s := range c.Sittings {
			fmt.Fprintf(w, "| %s | %s | %d |\n", s.Began.Format("2006-01-02 15:04"), s.Commit, s.Done)
		}
	}
	if len(c.Broken) > 0 {
		fmt.Fprintln(w)
	}
	for _, b := range c.Broken {
		fmt.Fprintf(w, "- %s\n", b)
	}
}

func (b broken) String() string {
	s := fmt.Sprintf("seed %d at %s: %s", b.Seed, b.Commit, strings.ReplaceAll(b.Law, "\n", " / "))
	if b.Mended != "" {
		s += "; it breaks none at " + b.Mended
	}
	return s
}

// err says whether a law was broken and is not kept since.
func (c *campaign) err() error {
	n, first := 0, ""
	for _, b := range c.Broken {
		if b.Mended == "" {
			if n++; n == 1 {
				first = b.String()
			}
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d histories broke a law, the first: %s", n, first)
}
