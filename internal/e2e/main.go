package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twinkeel/twinkeel/internal/vm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// options is what the command line asks for.
type options struct {
	cache, work string
	match       *regexp.Regexp
	seed        uint64
	all         bool // every case, not only the sample
	workers     int
	cuts        int
	prefixes    int // of the write log
	torn        int // states of the write log with writes lost or torn
	progress    string
	sitting     time.Duration
	seeded      bool // the seed was asked for
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("e2e", flag.ContinueOnError)
	pattern := f.String("run", "", "only cases that match `REGEXP`")
	f.StringVar(&o.cache, "cache", ".cache/vm", "`DIR` with the kernel of .ci/install e2e")
	f.StringVar(&o.work, "work", ".cache/e2e", "`DIR` for images, and for disks and consoles of what failed")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "`NUMBER` that all chance comes from")
	f.BoolVar(&o.all, "all", false, "every case, not only the sample")
	f.IntVar(&o.workers, "workers", 3, "`NUMBER` of machines at a time")
	f.IntVar(&o.cuts, "cuts", 25, "`NUMBER` of power cuts")
	f.IntVar(&o.prefixes, "prefixes", 8, "`NUMBER` of prefixes of the write log; the more, the nearer to every one")
	f.IntVar(&o.torn, "torn", 4, "`NUMBER` of states of the write log with writes lost or torn")
	f.StringVar(&o.progress, "progress", "", "`FILE` that says which cases are over, to go on from if it is there, with its seed; \"\": none")
	f.DurationVar(&o.sitting, "for", 0, "begin no case after so long; what is left is for the next run with -progress; 0: begin all")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	f.Visit(func(set *flag.Flag) { o.seeded = o.seeded || set.Name == "seed" })
	if o.match, err = regexp.Compile(*pattern); err != nil {
		return o, err
	}
	o.work, err = filepath.Abs(o.work)
	return o, err
}

// engine is what all cases share.
type engine struct {
	options
	kit  *kit
	site *site
	out  io.Writer

	// Disks, by loader.
	factory map[string]string // with release 1.0 in slot a, never booted
	disks   map[string]string // the same, adopted by its agent

	mu             sync.Mutex
	commit         string
	over           progress
	left           int // cases that were not begun, or not ended
	passed, failed int
	skipped        int
	cpu            time.Duration
	landed         map[landing]int // cuts
	pace           pace
	effects        []vm.Effect // of a whole update
	replayed       replayed
	keptBefore     int // boots that were written down before that
	keptAfter      int // and when it was over
	faults         int // of which the way back was to be measured
	outages        []outage
}

// run prepares everything, runs the cases and returns how many failed.
func run(ctx context.Context, args []string, out io.Writer) (failed int, err error) {
	o, err := parse(args)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	commit, err := revision(ctx)
	if err != nil {
		return 0, err
	}
	over, err := resume(o.progress, o.seed, o.seeded)
	if err != nil {
		return 0, err
	}
	o.seed = over.Seed
	fmt.Fprintf(out, "seed %d, commit %s, %s\n", o.seed, commit, began.UTC().Format("2006-01-02 15:04"))
	if err := o.clear(len(over.Cases) > 0); err != nil {
		return 0, err
	}
	e := &engine{options: o, out: out, commit: commit, over: over, landed: map[landing]int{}, factory: map[string]string{}, disks: map[string]string{}}
	if e.kit, err = newKit(ctx, o.cache, o.work); err != nil {
		return 0, err
	}
	cases, err := e.possible()
	if err != nil {
		return 0, err
	}
	defer func() {
		if e.site != nil { // also if something fails once it serves
			e.site.stop()
		}
	}()
	if err := e.prepare(needed(cases)); err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "      %-58s %18.1f s\n", "images, releases, factory disk", time.Since(began).Seconds())
	work := make(chan scenario)
	var wg sync.WaitGroup
	for range o.workers {
		wg.Go(func() {
			for c := range work {
				e.tell(c)
			}
		})
	}
	for _, c := range cases {
		if e.sitting > 0 && time.Since(began) > e.sitting || ctx.Err() != nil {
			e.left++
			continue
		}
		work <- c
	}
	close(work)
	wg.Wait()
	if e.left == 0 {
		e.moreCuts()
	}
	e.reportCuts()
	if e.replayed.prefixes+e.replayed.torn > 0 {
		fmt.Fprintf(out, "      write log of %d effects: %v\n", len(e.effects), e.replayed)
	}
	reportOutages(out, e.faults, e.outages)
	if e.failed == 0 && e.left == 0 {
		if err := os.RemoveAll(o.work); err != nil {
			return 0, err
		}
	}
	if o.progress != "" {
		fmt.Fprintf(out, "      cases in %s: %s\n", o.progress, e.over.commits())
	}
	fmt.Fprintf(out, "%.0f s, of which machines took %.0f s of processor; %d skipped\n%d passed, %d failed\n", time.Since(began).Seconds(), e.cpu.Seconds(), e.skipped, e.passed, e.failed)
	if e.left > 0 {
		return e.failed, fmt.Errorf("%d cases were not told, or not to their end", e.left)
	}
	return e.failed, nil
}

// failures is the directory of disks and consoles of what failed.
func (o options) failures() string { return filepath.Join(o.work, "failed") }

// clear makes an empty directory for everything. A run that goes on leaves what failed before.
func (o options) clear(goesOn bool) error {
	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(o.work)
	for _, f := range entries {
		if path := filepath.Join(o.work, f.Name()); !goesOn || path != o.failures() {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return errors.Join(err, os.MkdirAll(o.failures(), 0o755))
}

// scenario is one case.
type scenario struct {
	name     string
	sample   bool     // it is part of every run
	releases []string // versions that it needs, beside 1.0
	loader   loader
	recorded bool // it is about the update that this run recorded
	tell     func(e *engine, h *host, random *rand.Rand) error
}

// cases returns those that were asked for, each with a part of the seed.
func (e *engine) cases() (list []scenario) {
	for _, c := range slices.Concat(scenarios(), appScenarios(), powerCuts(e.cuts, e.cutLoaders()), e.writeLog()) {
		if c.loader.name == "" {
			c.loader = grubBIOS
		}
		if (e.all || c.sample) && e.match.MatchString(c.name) {
			list = append(list, c)
		}
	}
	return list
}

// possible returns the cases for which everything is there. In CI that is all of them.
func (e *engine) possible() (list []scenario, err error) {
	for _, c := range e.cases() {
		_, err := e.kit.core(c.loader)
		switch {
		case err == nil:
			list = append(list, c)
		case errors.Is(err, errLacks) && os.Getenv("CI") == "":
			fmt.Fprintf(e.out, "skip  %s: %v\n", c.name, err)
			e.skipped++
		default:
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return list, nil
}

// cutLoaders returns the loaders of machines that lose power.
func (e *engine) cutLoaders() []loader {
	if e.all {
		return append(loaders[:len(loaders):len(loaders)], largeSectors)
	}
	return loaders[:1]
}

// wants reports whether a case whose name has a word was asked for, by a loader.
func (e *engine) wants(word string, l loader) bool {
	return slices.ContainsFunc(e.cases(), func(c scenario) bool { return strings.Contains(c.name, word) && c.loader.id() == l.id() })
}

// needed returns the versions of releases that cases need, by loader.
func needed(cases []scenario) map[string]map[string]bool {
	versions := map[string]map[string]bool{}
	for _, c := range cases {
		if versions[c.loader.id()] == nil {
			versions[c.loader.id()] = map[string]bool{}
		}
		for _, v := range c.releases {
			versions[c.loader.id()][v] = true
		}
	}
	return versions
}

// tell tells one case, if it is not over, and reports it.
func (e *engine) tell(c scenario) {
	if r, ok := e.over.of(c.name, e.commit); ok {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.count(r)
		fmt.Fprintf(e.out, "over  %s: %s\n", c.name, cmp.Or(r.Error, "ok"))
		return
	}
	began := time.Now()
	h, err := e.newHost(c.name, c.loader)
	if err == nil {
		var sum uint64
		for _, b := range []byte(c.name) {
			sum = sum*131 + uint64(b)
		}
		err = c.tell(e, h, rand.New(rand.NewPCG(e.seed, sum)))
		err = errors.Join(err, h.close(err != nil && h.ctx.Err() == nil))
	}
	r := result{Name: c.name, Commit: e.commit, Ended: time.Now().UTC().Truncate(time.Second)}
	if err != nil {
		r.Error = err.Error()
	}
	if h != nil {
		r.Boots, r.CPUSeconds, r.Landed = h.boots, h.cpu.Seconds(), h.landed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil && e.kit.ctx.Err() != nil {
		e.left++ // it was ended, and says nothing
		return
	}
	verdict := "ok  "
	if err != nil {
		verdict = "FAIL"
	}
	e.count(r)
	fmt.Fprintf(e.out, "%s  %-58s %3d boots %5.1f s %6.1f s CPU\n", verdict, c.name, r.Boots, time.Since(began).Seconds(), r.CPUSeconds)
	if h != nil {
		e.faults, e.outages = e.faults+h.faults, append(e.outages, h.outages...)
		for _, n := range h.notes {
			fmt.Fprintf(e.out, "        %s\n", n)
		}
	}
	if err != nil {
		fmt.Fprintf(e.out, "        %v\n        kept: %s\n", err, filepath.Join(e.failures(), slug(c.name)))
	}
	if c.recorded {
		return // the next run records another update
	}
	if err := e.over.over(r); err != nil {
		fmt.Fprintf(e.out, "FAIL  progress: %v\n", err)
		e.failed++
	}
}

// count adds up what came of a case.
func (e *engine) count(r result) {
	if r.Error == "" {
		e.passed++
	} else {
		e.failed++
	}
	e.cpu += time.Duration(r.CPUSeconds * float64(time.Second))
	for _, at := range r.Landed {
		e.landed[at]++
	}
}
