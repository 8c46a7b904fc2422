package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twinkeel/twinkeel/internal/crashrig"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/internal/sim/histories"
	"github.com/twinkeel/twinkeel/internal/sim/mutants"
)

// settings are what the command line says.
type settings struct {
	histories uint64
	first     uint64
	hunt      int
	states    int
	all       bool // file systems
	out       string
}

func main() {
	var s settings
	flag.Uint64Var(&s.histories, "histories", 20000, "random histories")
	flag.Uint64Var(&s.first, "seed", 1, "first seed")
	flag.IntVar(&s.hunt, "hunt", 5000, "histories within which each planted bug has to be found; 0: none is planted")
	flag.IntVar(&s.states, "states", 150, "crash states of each file system")
	flag.BoolVar(&s.all, "all-file-systems", false, "xfs and btrfs as well as ext4")
	flag.StringVar(&s.out, "o", "docs/PROOF.md", "file to write")
	flag.Parse()
	debug.SetGCPercent(800) // histories are short and leave nothing behind
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var page strings.Builder
	err := prove(ctx, &page, s)
	if werr := os.WriteFile(s.out, []byte(page.String()), 0o644); werr != nil {
		err = errors.Join(err, werr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "proof:", err)
		os.Exit(1)
	}
}

// prove runs everything and writes the page. An error says what was refuted.
func prove(ctx context.Context, w io.Writer, s settings) error {
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	fmt.Fprintf(w, "# Proof\n\nWritten by `make proof` on %s, at commit %s. Every figure is of this run.\n\n",
		time.Now().UTC().Format("2006-01-02"), strings.TrimSpace(string(commit)))
	laws(w)
	return errors.Join(random(ctx, w, s), planted(ctx, w, s), rig(ctx, w, s))
}

func laws(w io.Writer) {
	fmt.Fprint(w, "## Invariants\n\n| # | invariant | function of `internal/sim` |\n| --- | --- | --- |\n")
	for _, l := range sim.Laws() {
		name := "about a fleet"
		if l.Func != "" {
			name = "`" + l.Func + "`"
		}
		fmt.Fprintf(w, "| %d | %s | %s |\n", l.Number, l.Text, name)
	}
}

// cpu returns the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func random(ctx context.Context, w io.Writer, s settings) error {
	var shelf histories.Shelf
	var sum histories.Counts
	var broken []string
	before := cpu()
	var mu sync.Mutex
	err := each(ctx, int(s.histories), func(i int) error {
		o, err := shelf.Live(s.first + uint64(i))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if sum.Add(o.Counts); len(o.Broken) > 0 {
			broken = append(broken, fmt.Sprintf("seed %d: %s", s.first+uint64(i), o.Broken[0]))
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(broken)
	took := cpu() - before
	fmt.Fprintf(w, "\n## Random histories\n\nSeeds from %d on. Each has at least %d starts, %d power cuts and %d releases.\n\n| what | count |\n| --- | --- |\n", s.first, histories.MinBoots, histories.MinCuts, histories.MinReleases)
	for _, row := range []struct {
		name string
		n    int
	}{
		{"histories", sum.Histories}, {"starts of the machine", sum.Starts}, {"boots that reached an agent", sum.Boots}, {"power cuts", sum.Cuts},
		{"kills of the agent", sum.Kills}, {"releases offered", sum.Releases}, {"changes to the world", sum.Effects}, {"calls of the world", sum.Calls}, {"histories that broke a law", len(broken)},
	} {
		fmt.Fprintf(w, "| %s | %d |\n", row.name, row.n)
	}
	fmt.Fprintf(w, "| processor seconds | %.0f |\n| histories per processor minute | %.0f |\n", took.Seconds(), float64(sum.Histories)/took.Minutes())
	for _, b := range broken {
		fmt.Fprintf(w, "\n- %s\n", b)
	}
	if len(broken) > 0 {
		return fmt.Errorf("%d histories broke a law, the first: %s", len(broken), broken[0])
	}
	return nil
}

// rarer is how many times as many histories a rare bug is looked for in.
const rarer = 2

func planted(ctx context.Context, w io.Writer, s settings) error {
	if s.hunt == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tests := filepath.Join(dir, "histories.test")
	if err := mutants.Build(".", "./internal/sim/histories", tests); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n## Planted bugs\n\nEach is planted alone, and has to be found within %d histories.\n\n| bug | file | found by seed | law |\n| --- | --- | --- | --- |\n", s.hunt)
	table := mutants.Table()
	found := make([]mutants.Found, len(table))
	if err := each(ctx, len(table), func(i int) (err error) {
		m, hunt := table[i], s.hunt
		if m.Rare {
			hunt *= rarer
		}
		if m.Masked == "" {
			found[i], err = mutants.Hunt(tests, m, hunt)
		}
		return err
	}); err != nil {
		return err
	}
	var missed []string
	counted := 0
	for i, m := range table {
		if m.Masked != "" {
			fmt.Fprintf(w, "| %s | `%s` | masked | %s |\n", m.Name, m.File, m.Masked)
			continue
		}
		f := found[i]
		law, _, _ := strings.Cut(f.Law, ":")
		switch {
		case m.Rare && f.Seed == 0:
			law = "not found; rare"
		case m.Rare:
			law += "; rare, does not count"
		case f.Seed == 0:
			missed, law = append(missed, m.Name), "**not found**"
		default:
			counted++
		}
		fmt.Fprintf(w, "| %s | `%s` | %d | %s |\n", m.Name, m.File, f.Seed, law)
	}
	fmt.Fprintf(w, "\n%d count: nothing masks them, and they were found in time. Rare ones were looked for in %d times as many histories.\n", counted, rarer)
	if len(missed) > 0 {
		return fmt.Errorf("not found: %s", strings.Join(missed, ", "))
	}
	return nil
}

func rig(ctx context.Context, w io.Writer, s settings) error {
	if s.states == 0 {
		return nil
	}
	fmt.Fprint(w, "\n## Crash states of real file systems\n\n| file system | states | writes | flushes | acknowledged writes lost | torn |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, fs := range crashrig.FileSystems() {
		if fs.Name != "ext4" && !s.all || ctx.Err() != nil {
			continue
		}
		dir, err := os.MkdirTemp("/dev/shm", "proof")
		if err != nil {
			return err
		}
		r, err := crashrig.Run(dir, fs, crashrig.Durable, s.states, s.first)
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			fmt.Fprintf(w, "| %s | could not be run: %v | | | | |\n", fs.Name, err)
			continue
		}
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d | %d |\n", r.FileSystem, r.States, r.Writes, r.Flushes, r.Lost, r.Torn)
		if r.Lost+r.Torn > 0 {
			return fmt.Errorf("%s: %s", fs.Name, r.First)
		}
	}
	return nil
}
