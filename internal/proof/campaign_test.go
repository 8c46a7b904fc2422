package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/internal/sim/histories"
)

// counted is a history of a seed that is over at once; one of a hundred breaks a law.
func counted(seed uint64) (*histories.Outcome, error) {
	o := &histories.Outcome{Counts: histories.Counts{Histories: 1, Starts: int(40 + seed%7), Calls: int(seed)}}
	if seed%100 == 0 {
		o.Broken = []string{fmt.Sprintf("law 1: of seed %d", seed)}
	}
	return o, nil
}

func fresh() campaign {
	return campaign{Format: progressFormat, First: 1000, Histories: 3 * batch / 2}
}

// saver returns what writes the progress of c to dir.
func saver(t *testing.T, dir durable.Dir, c *campaign) func() error {
	return func() error {
		b, err := json.Marshal(c)
		if err != nil {
			t.Error(err)
		}
		return dir.Replace("progress.json", b)
	}
}

// A campaign in many sittings, each broken off somewhere, lives through every seed once, and
// ends with the counts of one in a single sitting.
func TestSittingsAddUpToOneCampaign(t *testing.T) {
	dir, err := durable.OpenDir(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	whole := fresh()
	if err := whole.run(context.Background(), "abc", counted, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	var lived atomic.Uint64
	sittings := 0
	for step := uint64(1); ; step += 137 {
		c, err := fresh().resumed(dir, "progress.json")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		began := lived.Load()
		err = c.run(ctx, "abc", func(seed uint64) (*histories.Outcome, error) {
			if lived.Add(1) == began+step {
				stop()
			}
			return counted(seed)
		}, saver(t, dir, &c))
		stop()
		if sittings++; err == nil {
			break
		}
		if !errors.Is(err, errInterrupted) {
			t.Fatal(err)
		}
		if c.Done == c.Histories {
			break
		}
	}
	got, err := fresh().resumed(dir, "progress.json")
	if err != nil {
		t.Fatal(err)
	}
	if got.Done != whole.Done || got.Counts != whole.Counts || !slices.Equal(got.Broken, whole.Broken) {
		t.Errorf("got %+v, want %+v", got, whole)
	}
	if lived.Load() != whole.Histories || len(got.Sittings) != sittings || sittings < 5 {
		t.Errorf("got %d histories in %d sittings, noted %d; want each of %d once", lived.Load(), sittings, len(got.Sittings), whole.Histories)
	}
	if err := got.err(); err == nil || !strings.Contains(err.Error(), "seed 1000 at abc: law 1") {
		t.Errorf("broken laws: got %v", err)
	}
}

// Progress of another range of seeds is not gone on from, and the error
// names both.
func TestProgressOfAnotherCampaignIsRefused(t *testing.T) {
	dir, err := durable.OpenDir(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	was := fresh()
	if err := was.run(context.Background(), "abc", counted, saver(t, dir, &was)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*campaign)
		want   []string
	}{
		"seed":   {func(c *campaign) { c.First = 7 }, []string{"from 1000 on", "from 7 on"}},
		"number": {func(c *campaign) { c.Histories = 5 }, []string{"3000", "5 from"}},
	} {
		now := fresh()
		c.change(&now)
		if _, err := now.resumed(dir, "progress.json"); err == nil || !strings.Contains(err.Error(), c.want[0]) || !strings.Contains(err.Error(), c.want[1]) {
			t.Errorf("%s: got %v, want one with %q", name, err, c.want)
		}
	}
	if err := dir.Replace("progress.json", []byte(`{"format":2,"first":1000,"histories":3000,"done":2000}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := fresh().resumed(dir, "progress.json"); err == nil {
		t.Error("progress whose counts do not fit was gone on from")
	}
}

// The page says what ran, also if that is not what was wanted.
func TestPageSaysWhatRan(t *testing.T) {
	c := fresh()
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := c.run(ctx, "abc", counted, func() error { return nil }); !errors.Is(err, errInterrupted) {
		t.Fatalf("got %v, want %v", err, errInterrupted)
	}
	c.Done, c.Counts.Histories = 17, 17
	var page bytes.Buffer
	c.write(&page, "Histories")
	for _, want := range []string{"Seeds from 1000 to 1016.", "3000 are wanted", "| histories | 17 |"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("got %s, want %q in it", page.String(), want)
		}
	}
	c = fresh()
	if err := c.run(context.Background(), "abc", counted, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	page.Reset()
	if c.write(&page, "Histories"); strings.Contains(page.String(), "are wanted") || !reflect.DeepEqual(c.Sittings[0].Done, c.Histories) {
		t.Errorf("got %s", page.String())
	}
}

// A history that broke a law is lived through again by the next sitting, whose commit is
// noted where it breaks none any more.
func TestWhatBrokeALawIsLivedThroughAgain(t *testing.T) {
	c := fresh()
	if err := c.run(context.Background(), "abc", counted, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	mended := func(seed uint64) (*histories.Outcome, error) {
		if seed == 1000 {
			return counted(seed)
		}
		return &histories.Outcome{}, nil
	}
	if err := c.again("def", mended); err != nil {
		t.Fatal(err)
	}
	if err := c.err(); err == nil || !strings.HasPrefix(err.Error(), "1 histories broke a law, the first: seed 1000 at abc") {
		t.Errorf("with one that still breaks a law: got %v", err)
	}
	if err := c.again("ghi", func(uint64) (*histories.Outcome, error) { return &histories.Outcome{}, nil }); err != nil {
		t.Fatal(err)
	}
	if err := c.err(); err != nil || c.Broken[0].Mended != "ghi" || c.Broken[1].Mended != "def" {
		t.Errorf("got %v, %v and %v", err, c.Broken[0], c.Broken[1])
	}
}

// An interrupted run leaves a page that says how far it came, and does not look like a proof.
func TestAPageOfAnInterruptedRunSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var w strings.Builder
	err := prove(ctx, &w, "abc", settings{histories: 10, first: 1})
	if !errors.Is(err, errInterrupted) || !strings.Contains(w.String(), "**This run ended here: interrupted: 0 of 10 histories are done.**") {
		t.Errorf("got %v and the page\n%s", err, w.String())
	}
}

func TestProgressOfAnotherFormatIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "campaign.json")
	for format, want := range map[int]bool{progressFormat - 1: false, progressFormat: true, progressFormat + 1: false} {
		if err := os.WriteFile(file, fmt.Appendf(nil, `{"format": %d, "first": 1, "histories": 0}`, format), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := lived(io.Discard, settings{campaign: file}); (err == nil) != want {
			t.Errorf("format %d: got %v", format, err)
		}
	}
}
