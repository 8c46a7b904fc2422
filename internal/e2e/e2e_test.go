package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/internal/vm"
	"github.com/twinkeel/twinkeel/release"
)

func TestACutLandsInThePhaseOfTheLastMark(t *testing.T) {
	log := filepath.Join(t.TempDir(), "console")
	for console, want := range map[string]string{
		"VM up slot=a release=1.0\nAG msg=started\n":                                                     "before the update",
		"VM up slot=a release=1.0 trial=0\nVM adopts\nOUT verify: reading root back":                     "adoption",
		"VM up slot=a release=1.0 trial=0\nVM adopts\nVM ran 0\nVM adopted\n":                            "before the update",
		"VM up slot=b release=2.0 trial=0\nAG msg=step step=verify phase=staged\n":                       "read-back",
		"AG msg=step step=\"mark armed\"\nVM up slot=a release=1.0 trial=1\nAG msg=step step=judge\n":    "trial",
		"AG msg=step step=stage\nOUT stage: root by delta, 1 MB of 2 MB\n":                               "stage",
		"AG msg=step step=stage\nOUT verify: reading root back, 1 MB of 2 MB\n":                          "read-back",
		"OUT verify: reading root back\nAG msg=step step=\"mark armed\"\nAG msg=step step=reboot":        "arm",
		"AG msg=step step=\"mark armed\"\nVM up slot=b release=2.0 trial=1\nAG msg=step step=judge\n":    "trial",
		"VM up slot=b release=2.0 trial=1\nAG msg=step step=commit phase=armed\n":                        "commit",
		"VM up slot=b release=2.2 trial=1\nAG msg=step step=\"mark reverting\"\nAG msg=step step=revert": "revert",
	} {
		if err := os.WriteFile(log, []byte(console), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := landedIn(log); got != want || err != nil {
			t.Errorf("%q: got %s, %v, want %s", console, got, err, want)
		}
	}
}

func TestStatesOfTheWriteLogAreEveryPrefixIfThatManyAreAskedFor(t *testing.T) {
	e := &engine{effects: []vm.Effect{
		{At: bootEnvAt, Data: make([]byte, 512)}, {Flush: true}, {At: rootAt, Data: make([]byte, 4096)},
		{At: bootAt, Data: make([]byte, 4096)}, {Flush: true}, {At: dataAt, Data: make([]byte, 512)},
	}}
	e.prefixes, e.torn = 100, 2
	seen := map[int]int{}
	for _, p := range e.points() {
		if !p.chance {
			seen[p.n]++
		}
	}
	for n := 1; n <= len(e.effects); n++ {
		want := 1
		if e.effects[n-1].Data == nil {
			want = 0 // the same disk as without that flush
		}
		if seen[n] != want {
			t.Errorf("prefix of %d effects: got %d times, want %d", n, seen[n], want)
		}
	}
	if got := len(e.points()); got != 4+2 {
		t.Errorf("got %d states", got)
	}
	e.prefixes, e.torn = 2, 0
	for _, p := range e.points() {
		if p.n == 3 || p.n == 4 {
			t.Errorf("a sample of 2 holds prefix %d, which only changes a slot", p.n)
		}
	}
}

func TestCutsOfARunComeInEveryPhaseAsOftenAsTheyHaveTo(t *testing.T) {
	left, total := map[string]int{}, 0
	for _, c := range powerCuts(minCuts, loaders) {
		_, names, _ := strings.Cut(c.name, ": ")
		for _, name := range strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ';' }) {
			left[strings.TrimSpace(name)]++
			total++
		}
	}
	for _, p := range phases {
		if left[p.name] < minLanded {
			t.Errorf("%s: got %d of %d cuts, want at least %d", p.name, left[p.name], minCuts, minLanded)
		}
	}
	for _, p := range morePhases {
		if left[p.name] == 0 {
			t.Errorf("%s: got no cut of %d", p.name, minCuts)
		}
	}
	if total != minCuts {
		t.Errorf("got %d cuts, want %d", total, minCuts)
	}
}

func TestCutsLandInAPhaseThatIsMuchShorterThanItWasThought(t *testing.T) {
	for _, part := range []time.Duration{1, 3, 10} {
		length, failed := readBack.spread/part, 0
		for seed := range uint64(1000) {
			var c pace
			random := rand.New(rand.NewPCG(seed, 0))
			landed := 0
			for range minLanded + moreRounds {
				if d := c.delay(grubBIOS.title, readBack, random); d >= length {
					c.missed(grubBIOS.title, readBack, d)
				} else if landed++; landed == minLanded {
					break
				}
			}
			if landed < minLanded {
				failed++
			}
		}
		if failed > 1 {
			t.Errorf("a phase of %v: got %d runs of 1000 with too few cuts in it, want 1 at most", length, failed)
		}
	}
}

func TestACutThatWasLateForNoReasonOfTheMachineTakesLittleOfThePhase(t *testing.T) {
	var c pace
	c.missed(grubBIOS.title, arm, 0)
	random, latest := rand.New(rand.NewPCG(1, 0)), time.Duration(0)
	for range 100 {
		latest = max(latest, c.delay(grubBIOS.title, arm, random))
	}
	if latest < arm.spread/10 || latest >= arm.spread/8 {
		t.Errorf("the latest of 100 cuts: got %v after the begin, want a little less than %v", latest, arm.spread/8)
	}
	if c.spread(systemdBoot.title, arm) != arm.spread {
		t.Error("another loader's machine has the pace of this one")
	}
}

func TestAJourneyIsLeftInTheMiddleOfALeg(t *testing.T) {
	for n, want := range []string{"", "read-back", "read-back, arm", "read-back, arm, revert", "read-back, arm, revert; stage"} {
		part, cuts := journeys[2].first(n)
		if part.String() != want || cuts != n {
			t.Errorf("first %d: got %q with %d cuts, want %q", n, part, cuts, want)
		}
	}
}

func TestARelayCutsAfterSoManyBytes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(make([]byte, 1<<20)) // it may be cut
			c.Close()
		}
	}()
	r, err := newRelay(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	read := func() int64 {
		c, err := net.Dial("tcp", r.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		n, _ := io.Copy(io.Discard, c) // how it ends is not the question
		return n
	}
	if n := read(); n != 1<<20 {
		t.Errorf("open: got %d bytes", n)
	}
	r.cutAfter(100_000)
	if n := read(); n >= 1<<20 {
		t.Errorf("cut: got %d bytes", n)
	}
	if n := read(); n != 0 {
		t.Errorf("after the cut: got %d bytes", n)
	}
	r.cutAfter(0)
	if n := read(); n != 1<<20 {
		t.Errorf("open again: got %d bytes", n)
	}
}

func TestWhatAKernelWasToldHasToBeWhatWasSigned(t *testing.T) {
	v, err := release.ParseVersion("2.0")
	if err != nil {
		t.Fatal(err)
	}
	root := release.DigestOf([]byte("root"))
	signed, err := json.Marshal(release.Manifest{Version: v, Images: []release.Image{{Name: "root", Root: root}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{dir: t.TempDir()}
	for _, l := range []loader{grubBIOS, systemdBoot} {
		dir := filepath.Join(s.dir, "repository/targets/os/stable", l.compatible())
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "0.2.0.json"), signed, 0o600); err != nil {
			t.Fatal(err)
		}
		good := up{"slot": "b", "release": "2.0", "version": "2.0", "roothash": root.String(), "e2e": "-"}
		if l.name == systemdBoot.name {
			good["e2e"] = "2.0"
		}
		h := &host{l: l, site: s}
		if err := h.started(good); err != nil {
			t.Errorf("%s: %v", l.name, err)
		}
		for name, value := range map[string]string{"version": "1.0", "roothash": release.DigestOf(nil).String(), "e2e": "1.0", "release": "2.1"} {
			bad := maps.Clone(good)
			bad[name] = value
			if h.started(bad) == nil {
				t.Errorf("%s: %s=%s passes", l.name, name, value)
			}
		}
	}
}

func TestAnOutageLastsUntilTheOldSlotServes(t *testing.T) {
	var s stopwatch
	for i, line := range []string{
		"VM serves healthy=true", "VM up slot=b release=2.2", "VM serves healthy=false", `AG msg=step step="mark reverting"`,
		"VM up slot=a release=1.0",
	} {
		s.seeAt(line, time.Unix(int64(i), 0))
	}
	if o, err := s.outage("x"); err == nil {
		t.Errorf("before the old slot serves: got %+v", o)
	}
	s.seeAt("VM serves healthy=true", time.Unix(9, 0))
	s.seeAt("VM serves healthy=true", time.Unix(20, 0))
	if o, err := s.outage("x"); err != nil || o.verdict != 2*time.Second || o.back != 8*time.Second {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestTheConfigurationOfEveryMachineIsOneThatTheAgentReads(t *testing.T) {
	for _, l := range bases {
		s := system{"2.2", "unhealthy"}
		text := fmt.Sprintf(configuration+l.wanted(), l.compatible(), l.path, l.name, s.deadline(l), s.soak())
		c, err := config.Parse(config.Source{Name: l.id(), Data: []byte(text)})
		if err != nil {
			t.Errorf("%s: %v", l.id(), err)
			continue
		}
		if got, want := len(c.Apps.Wanted) == 1, l.app("1.0") != ""; got != want {
			t.Errorf("%s: wants an application: got %t, releases name one: %t", l.id(), got, want)
		}
	}
}

func TestAGenerationIsOfTheFilesBelowItsNameAlone(t *testing.T) {
	all := map[string]string{"g1/db/notes.txt": "a", "g10/db/notes.txt": "b", "o1-1/db/notes.json": "c"}
	for name, want := range map[string]map[string]string{
		"g1": {"db/notes.txt": "a"}, "g10": {"db/notes.txt": "b"}, "o1-1": {"db/notes.json": "c"}, "g": {}, "": {},
	} {
		if got := generation(all, name); !maps.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestARunThatGoesOnKeepsWhatFailedBefore(t *testing.T) {
	o := options{work: t.TempDir()}
	kept, other := filepath.Join(o.failures(), "disk.img"), filepath.Join(o.work, "disk.img")
	for goesOn, want := range map[bool]bool{true: true, false: false} {
		err := errors.Join(os.MkdirAll(o.failures(), 0o700), os.WriteFile(kept, nil, 0o600), os.WriteFile(other, nil, 0o600), o.clear(goesOn))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(kept); (err == nil) != want {
			t.Errorf("goes on %t: %s: %v", goesOn, kept, err)
		}
		if _, err := os.Stat(other); err == nil {
			t.Errorf("goes on %t: %s is left", goesOn, other)
		}
	}
}

func TestARunGoesOnBehindTheCasesThatAreOver(t *testing.T) {
	name := filepath.Join(t.TempDir(), "new", "progress.json")
	p, err := resume(name, 7, true)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	tell := func(p progress, name string, landed []landing, err error) *engine {
		dir := t.TempDir()
		disk := filepath.Join(dir, "disk")
		e := &engine{options: options{work: dir}, commit: name, over: p, out: t.Output(), kit: &kit{ctx: t.Context(), work: dir},
			site: &site{address: "127.0.0.1:1"}, landed: map[landing]int{}, disks: map[string]string{"grub": disk}}
		if err := errors.Join(e.clear(false), os.WriteFile(disk, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		e.tell(scenario{name: name, loader: grubBIOS, tell: func(_ *engine, h *host, _ *rand.Rand) error {
			told[name]++
			h.landed = landed
			return err
		}})
		return e
	}
	tell(p, "good", []landing{{"GRUB on BIOS", "arm"}}, nil)
	if p, err = resume(name, 8, false); err != nil || p.Seed != 7 {
		t.Fatalf("goes on with seed %d, %v", p.Seed, err)
	}
	tell(p, "bad", nil, io.ErrUnexpectedEOF)
	if p, err = resume(name, 7, true); err != nil {
		t.Fatal(err)
	}
	if e := tell(p, "good", nil, nil); e.passed != 1 || e.failed != 0 || e.landedBy("arm") != 1 {
		t.Errorf("a case that passed: got %d passed, %d failed, landed %v", e.passed, e.failed, e.landed)
	}
	if e := tell(p, "bad", nil, nil); e.passed != 0 || e.failed != 1 {
		t.Errorf("a case that failed: got %d passed, %d failed", e.passed, e.failed)
	}
	if told["good"] != 1 || told["bad"] != 1 {
		t.Errorf("told %v", told)
	}
	if _, over := p.of("bad", "mended"); over {
		t.Error("a case that failed is not told again at another commit")
	}
	if p, err = resume(name, 7, true); err != nil || p.commits() != "1 at bad, 1 at good" {
		t.Errorf("cases at commits: got %q, %v", p.commits(), err)
	}
	if _, err := resume(name, 8, true); err == nil {
		t.Error("a run of another seed goes on")
	}
}
