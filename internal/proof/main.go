package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/twinkeel/twinkeel/internal/crashrig"
	"github.com/twinkeel/twinkeel/internal/durable"
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
	campaign  string
	live      bool
	sitting   time.Duration
	cuts      bool
}

func main() {
	var s settings
	flag.Uint64Var(&s.histories, "histories", 20000, "random histories")
	flag.Uint64Var(&s.first, "seed", 1, "first seed")
	flag.IntVar(&s.hunt, "hunt", 5000, "histories within which each planted bug has to be found; 0: none is planted")
	flag.IntVar(&s.states, "states", 150, "crash states of each file system")
	flag.BoolVar(&s.all, "all-file-systems", false, "xfs and btrfs as well as ext4")
	flag.StringVar(&s.out, "o", "docs/PROOF.md", "file to write")
	flag.StringVar(&s.campaign, "campaign", "docs/campaign.json", "file that says how far the campaign of random histories has come")
	flag.BoolVar(&s.live, "live", false, "go on with the campaign, and do nothing else: -histories from -seed on")
	flag.BoolVar(&s.cuts, "two-cuts", false, "every two cuts of the exhaustive stories, and not a sample")
	flag.DurationVar(&s.sitting, "for", 0, "with -live: end this sitting after so long, as SIGTERM does; 0: not")
	flag.Parse()
	debug.SetGCPercent(1000) // histories are short and leave nothing behind; what is kept of releases is for all
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := page
	if s.live {
		run = sit
	}
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "proof:", err)
		os.Exit(1)
	}
}

// page runs everything and writes what came of it, also if something was refuted.
func page(ctx context.Context, s settings) error {
	commit, err := revision(ctx, s.out)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	var w strings.Builder
	err = prove(ctx, &w, commit, s)
	return errors.Join(err, os.WriteFile(s.out, []byte(w.String()), 0o644))
}

// prove is page without the file. An error says what was refuted.
func prove(ctx context.Context, w io.Writer, commit string, s settings) error {
	fmt.Fprintf(w, "# Proof\n\nWritten by `make proof` on %s, at commit %s. Every figure is of this run, but for those of the campaign, which `make histories` lives through in sittings.\n\n",
		time.Now().UTC().Format("2006-01-02"), commit)
	laws(w)
	c := campaign{First: s.first, Histories: s.histories}
	var shelf histories.Shelf
	err := c.run(ctx, commit, shelf.Live, func() error { return nil })
	c.write(w, "Random histories")
	if err != nil {
		fmt.Fprintf(w, "\n**This run ended here: %v.**\n", err)
		return err
	}
	return errors.Join(c.err(), lived(w, s), exhaustive(ctx, w, s.cuts), planted(ctx, w, s), rig(ctx, w, s))
}

// lived adds how far the campaign has come.
func lived(w io.Writer, s settings) error {
	b, err := os.ReadFile(s.campaign)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var c campaign
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("%s: %w", s.campaign, err)
	}
	if c.Format != progressFormat {
		return fmt.Errorf("%s: format: got %d, want %d", s.campaign, c.Format, progressFormat)
	}
	c.write(w, "The campaign")
	return c.err()
}

// sit goes on with the campaign for one sitting.
func sit(ctx context.Context, s settings) error {
	commit, err := revision(ctx, s.campaign)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	dir, err := durable.OpenDir(filepath.Dir(s.campaign), false)
	if err != nil {
		return err
	}
	name := filepath.Base(s.campaign)
	c, err := campaign{Format: progressFormat, First: s.first, Histories: s.histories}.resumed(dir, name)
	if err != nil {
		return err
	}
	var shelf histories.Shelf
	save := func() error {
		b, err := json.MarshalIndent(c, "", " ")
		if err != nil {
			return err
		}
		return dir.Replace(name, append(b, '\n'))
	}
	if err := errors.Join(c.again(commit, shelf.Live), save()); err != nil {
		return err
	}
	if s.sitting > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.sitting)
		defer cancel()
	}
	err = c.run(ctx, commit, shelf.Live, save)
	if errors.Is(err, errInterrupted) && s.sitting > 0 {
		fmt.Printf("%d of %d histories are done\n", c.Done, c.Histories)
		err = nil
	}
	return errors.Join(err, c.err())
}

// revision names the commit that is checked out, and says if anything but the page was
// changed since.
func revision(ctx context.Context, page string) (string, error) {
	name, err := exec.CommandContext(ctx, "git", "describe", "--always").Output()
	if err != nil {
		return "", err
	}
	args := []string{"diff", "--quiet", "HEAD", "--", "."}
	if filepath.IsLocal(page) {
		args = append(args, ":(exclude)"+page)
	}
	commit := strings.TrimSpace(string(name))
	var exit *exec.ExitError
	if err := exec.CommandContext(ctx, "git", args...).Run(); errors.As(err, &exit) && exit.ExitCode() == 1 {
		return commit + "-dirty", nil
	} else if err != nil {
		return "", err
	}
	return commit, nil
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
	debug.SetGCPercent(100) // each state is a whole file system
	var missing []error
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
			missing = append(missing, fmt.Errorf("%s: %w", fs.Name, err))
			continue
		}
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d | %d |\n", r.FileSystem, r.States, r.Writes, r.Flushes, r.Lost, r.Torn)
		if r.Lost+r.Torn > 0 {
			return fmt.Errorf("%s: %s", fs.Name, r.First)
		}
	}
	return errors.Join(missing...)
}
