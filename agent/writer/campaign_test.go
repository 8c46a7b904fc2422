package writer

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/internal/machine"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// stageMain is what this binary does as a writer process of its own: one update, up to
// the armed trial.
func stageMain(dir, url string) error {
	w, err := Open(campaignHost(dir, url), slog.New(slog.DiscardHandler), true)
	if err != nil {
		return err
	}
	defer w.Close()
	_, err = w.Do(context.Background(), agent.Request{Verb: agent.VerbUpdate, NoReboot: true}, nil)
	if agent.CodeOf(err) == agent.CodeBusy {
		return nil // it was killed when the slot was armed already
	}
	return err
}

func campaignHost(dir, url string) *config.Config {
	c := config.Default()
	c.Server, c.Channel, c.Compatible, c.HostID = url, sim.Channel, sim.Compatible, "h"
	c.State, c.Root = filepath.Join(dir, "state"), filepath.Join(dir, "root.json")
	c.Boot.Loader, c.Boot.Path, c.Boot.Reboot = "simulated", filepath.Join(dir, "record"), []string{"true"}
	for slot, name := range map[partitions.Slot]string{partitions.A: "a", partitions.B: "b"} {
		c.Slots[slot]["root"] = filepath.Join(dir, name)
	}
	return c
}

// campaign is a repository that counts what it serves, in which release 2 is to be had by
// one route.
type campaign struct {
	route           string
	program         string // this binary, or one like it
	publisher       *sim.Publisher
	image, next     []byte
	whole           int64 // bytes that an update without a kill is served
	manifest        []byte
	url             string
	served, tripped atomic.Int64
	trip            chan struct{} // gets a word when served passes tripped
}

// program is this test binary. Under the race detector, whose shadow memory no fetcher
// may have, it is one that is built without.
func program(t *testing.T) string {
	t.Helper()
	if !underRace {
		return os.Args[0]
	}
	path := filepath.Join(t.TempDir(), "writer.test")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func newCampaign(t *testing.T, route string) *campaign {
	t.Helper()
	const size = 12 << 20
	c := &campaign{route: route, program: program(t), image: make([]byte, size), trip: make(chan struct{}, 1)}
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(c.image)
	c.next = slices.Clone(c.image)
	for i := 0; i < size; i += 16 * release.BlockSize {
		_, _ = r.Read(c.next[i : i+4*release.BlockSize])
	}
	var err error
	if c.publisher, err = sim.NewPublisher(t.TempDir(), time.Now().AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := c.publisher.Release(sim.Spec{Version: "1", Images: map[string][]byte{"root": c.image}})
	if err != nil {
		t.Fatal(err)
	}
	spec := sim.Spec{Version: "2", Images: map[string][]byte{"root": c.next}, Blocks: route == "blocks"}
	if route == "delta" {
		spec.From = []*sim.Release{first}
	}
	second, err := c.publisher.Release(spec)
	if err == nil {
		err = c.publisher.Direct(second, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.manifest, err = first.Manifest.Encode(); err != nil {
		t.Fatal(err)
	}
	files := c.publisher.Files()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, ok := files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(counter{w, c}, r, "", time.Time{}, bytes.NewReader(content))
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// counter counts the bytes of bodies.
type counter struct {
	http.ResponseWriter
	c *campaign
}

func (k counter) Write(b []byte) (int, error) {
	n, err := k.ResponseWriter.Write(b)
	if sum := k.c.served.Add(int64(n)); sum >= k.c.tripped.Load() {
		select {
		case k.c.trip <- struct{}{}:
		default:
		}
	}
	return n, err
}

// host makes a host in dir that runs release 1.
func (c *campaign) host(t *testing.T, dir string) {
	t.Helper()
	host := campaignHost(dir, c.url)
	for _, slot := range partitions.Slots {
		if err := os.WriteFile(host.Slots[slot]["root"], make([]byte, len(c.image)+1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := release.DecodeManifest(c.manifest)
	if err != nil {
		t.Fatal(err)
	}
	factory := filepath.Join(dir, "factory.img")
	if err := os.WriteFile(factory, c.image, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := machine.WriteImage(host.Slots[partitions.A]["root"], factory, m.Images[0].Salt); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(host.Root, c.publisher.Root(), 0o600); err != nil {
		t.Fatal(err)
	}
	record(t, host)
	w, err := Open(host, slog.New(slog.DiscardHandler), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Do(t.Context(), agent.Request{Verb: agent.VerbInit, Factory: c.manifest}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// process runs one writer process on the host in dir; it is killed once the server has
// served more bytes than this, and a moment. It reports whether the kill came in time.
func (c *campaign) process(t *testing.T, dir string, bytes int64, moment time.Duration) (killed bool) {
	t.Helper()
	c.tripped.Store(c.served.Load() + bytes)
	select {
	case <-c.trip:
	default:
	}
	var said strings.Builder
	cmd := exec.CommandContext(t.Context(), c.program, "stage", dir, c.url)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second // the fetcher holds the pipe a little longer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-over:
			return
		case <-c.trip:
		}
		select {
		case <-over:
		case <-time.After(moment):
			_ = cmd.Process.Kill()
		}
	}()
	_ = cmd.Wait()
	close(over)
	<-stopped
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return true
	}
	if cmd.ProcessState.ExitCode() != 0 {
		t.Fatalf("%s: %s", c.route, said.String())
	}
	return false
}

// The real writer and its fetcher, as processes, are killed with SIGKILL at random moments
// of an update, again and again, by each route. In the end the slot holds the release, bit
// for bit; and each kill costs at most one segment again, which is 4 MiB.
func TestEachKillCostsAtMostASegmentAgain(t *testing.T) {
	kills := 20
	if os.Getenv("TWINKEEL_LONG") != "" {
		kills = 1000
	}
	if testing.Short() {
		kills = 6
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	routes := []string{"full", "delta", "blocks"}
	for i, route := range routes {
		c := newCampaign(t, route)
		whole, _ := c.update(t, r, 0)
		if whole < int64(len(c.next))/8 {
			t.Fatalf("%s: an update serves only %d bytes", route, whole)
		}
		var landed, updates int
		var again, worst int64
		for share := (kills + len(routes) - 1 - i) / len(routes); landed < share; updates++ {
			served, n := c.update(t, r, min(8, share-landed))
			landed += n
			if n > 0 {
				again += served - whole
				worst = max(worst, (served-whole)/int64(n))
			}
		}
		t.Logf("%s: %d kills in %d updates of %d bytes: %d bytes again in all, in the worst update %d for each kill", route, landed, updates, whole, again, worst)
	}
}

// update brings a new host to release 2 with at most so many kills, and returns what was
// served and how many of them came in time.
func (c *campaign) update(t *testing.T, r *rand.Rand, kills int) (served int64, landed int) {
	t.Helper()
	const segment, rest = 4 << 20, 128 << 10 // rest: metadata, heads and the map
	dir := t.TempDir()
	defer os.RemoveAll(dir)
	c.host(t, dir)
	start := c.served.Load()
	for range kills {
		at := r.Int64N(int64(len(c.next)) / 3)
		if r.IntN(4) == 0 {
			at = 0
		}
		if !c.process(t, dir, at, time.Duration(r.Int64N(int64(60*time.Millisecond)))) {
			break
		}
		landed++
	}
	c.process(t, dir, 1<<40, 0)
	got, err := os.ReadFile(filepath.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(got, c.next) {
		t.Errorf("%s: after %d kills the slot does not hold the release", c.route, landed)
	}
	served = c.served.Load() - start
	if most := int64(landed) * (segment + rest); kills > 0 && served > c.whole+most {
		t.Errorf("%s: %d kills: got %d bytes, want at most %d and %d", c.route, landed, served, c.whole, most)
	}
	if kills == 0 {
		c.whole = served
	}
	return served, landed
}

// campaignMain runs this binary as the process that its arguments ask for.
func campaignMain(args []string) {
	if len(args) == 3 && args[0] == "stage" {
		if err := stageMain(args[1], args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}
