package main

import (
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
	if err := f.Parse(args); err != nil {
		return o, err
	}
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
	passed, failed int
	skipped        int
	cpu            time.Duration
	landed         map[landing]int // cuts
	effects        []vm.Effect     // of a whole update
	keptBefore     int             // boots that were written down before that
	keptAfter      int             // and when it was over
	faults         int             // of which the way back was to be measured
	outages        []outage
}

// run prepares everything, runs the cases and returns how many failed.
func run(ctx context.Context, args []string, out io.Writer) (failed int, err error) {
	o, err := parse(args)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	fmt.Fprintf(out, "seed %d\n", o.seed)
	if err := errors.Join(os.RemoveAll(o.work), os.MkdirAll(o.work, 0o755)); err != nil {
		return 0, err
	}
	e := &engine{options: o, out: out, landed: map[landing]int{}, factory: map[string]string{}, disks: map[string]string{}}
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
		work <- c
	}
	close(work)
	wg.Wait()
	e.moreCuts()
	e.reportCuts()
	reportOutages(out, e.faults, e.outages)
	if e.failed == 0 {
		if err := os.RemoveAll(o.work); err != nil {
			return 0, err
		}
	}
	fmt.Fprintf(out, "%.0f s, of which machines took %.0f s of processor; %d skipped\n%d passed, %d failed\n", time.Since(began).Seconds(), e.cpu.Seconds(), e.skipped, e.passed, e.failed)
	return e.failed, nil
}

// scenario is one case.
type scenario struct {
	name     string
	sample   bool     // it is part of every run
	releases []string // versions that it needs, beside 1.0
	loader   loader
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

// tell tells one case and reports it.
func (e *engine) tell(c scenario) {
	began := time.Now()
	h, err := e.newHost(c.name, c.loader)
	if err == nil {
		var sum uint64
		for _, b := range []byte(c.name) {
			sum = sum*131 + uint64(b)
		}
		err = c.tell(e, h, rand.New(rand.NewPCG(e.seed, sum)))
		err = errors.Join(err, h.close(err != nil))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	verdict := "ok  "
	if err != nil {
		verdict = "FAIL"
		e.failed++
	} else {
		e.passed++
	}
	boots, cpu := 0, time.Duration(0)
	if h != nil {
		boots, cpu = h.boots, h.cpu
	}
	e.cpu += cpu
	fmt.Fprintf(e.out, "%s  %-58s %3d boots %5.1f s %6.1f s CPU\n", verdict, c.name, boots, time.Since(began).Seconds(), cpu.Seconds())
	if h != nil {
		e.faults, e.outages = e.faults+h.faults, append(e.outages, h.outages...)
		for _, n := range h.notes {
			fmt.Fprintf(e.out, "        %s\n", n)
		}
	}
	if err != nil {
		fmt.Fprintf(e.out, "        %v\n        kept: %s\n", err, filepath.Join(e.work, "cases", slug(c.name)))
	}
}
