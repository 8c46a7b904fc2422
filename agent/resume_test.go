package agent_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// noise is an image that does not compress.
func noise(size int, seed uint64) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

// A kill or a power cut at any moment of a download costs at most one request again: a
// segment of the full image, which is 4 MiB.
func TestAnInterruptedDownloadFetchesOneSegmentAgainAtMost(t *testing.T) {
	const size, segment, metadata = 11 << 20, 4 << 20, 64 << 10
	p, err := sim.NewPublisher(t.TempDir(), noon.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	var releases []*sim.Release
	for v, seed := range map[string]uint64{"1": 1, "2": 2} {
		r, err := p.Release(sim.Spec{Version: v, Images: map[string][]byte{"root": noise(size, seed)}})
		if err != nil {
			t.Fatal(err)
		}
		if releases = append(releases, r); v == "2" {
			err = p.Direct(r, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	first, second := releases[0], releases[1]
	if first.Manifest.Version.String() == "2" {
		first, second = second, first
	}
	// run installs release 2 with one interruption at effect n, and returns the bytes served.
	run := func(n int, end sim.End) (served int64, happened bool) {
		m, err := sim.NewMachine(1, noon, size+1<<20, p.Root(), first, sim.Simulated)
		if err != nil {
			t.Fatal(err)
		}
		m.Releases = append(m.Releases, second)
		m.Net.Serve(p.Files())
		manifest, err := first.Manifest.Encode()
		if err != nil {
			t.Fatal(err)
		}
		m.Process(func(a *agent.Agent) {
			if _, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbInit, Factory: manifest}, nil); err != nil {
				t.Fatal(err)
			}
		})
		m.CutAt(n, end)
		for range 8 {
			m.Process(sim.Once)
			m.SetTime(m.Clock().Now().Add(2 * time.Hour)) // a lost trial waits an hour for its next one
		}
		if m.Running() != second {
			t.Errorf("interrupted at effect %d: release 2 does not run", n)
		}
		return m.Net.Served(), !m.Pending()
	}
	whole, _ := run(1<<30, sim.Killed)
	if whole < 2*segment {
		t.Fatalf("the download has %d bytes and shows nothing", whole)
	}
	for _, end := range []sim.End{sim.Killed, sim.PowerCut} {
		for n := 1; ; n += stride(7) {
			got, happened := run(n, end)
			if !happened {
				break
			}
			if got > whole+segment+metadata {
				t.Errorf("%s at effect %d: got %d bytes, want at most %d + %d", end, n, got, whole, segment+metadata)
			}
		}
	}
}
