package agent_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

const (
	blocksSize = 6 << 20
	blocksRoom = blocksSize + 1<<20
)

// shifted is image with other blocks in some places, and all the rest moved by a block.
func shifted(image []byte, fresh int) []byte {
	next := slices.Concat(noise(release.BlockSize, 99), image)
	blocks := len(next) / release.BlockSize
	for i := range fresh {
		at := (i*blocks/fresh + 1) * release.BlockSize
		copy(next[at:at+release.BlockSize], noise(release.BlockSize, uint64(1000+i)))
	}
	return next
}

// blockWorld is a machine that runs release 1, and a repository in which release 2 has a
// block map, and a delta if delta is set.
func blockWorld(t *testing.T, delta bool) (m *sim.Machine, second *sim.Release) {
	t.Helper()
	p, err := sim.NewPublisher(t.TempDir(), noon.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	image := noise(blocksSize, 1)
	first, err := p.Release(sim.Spec{Version: "1", Images: map[string][]byte{"root": image}})
	if err != nil {
		t.Fatal(err)
	}
	spec := sim.Spec{Version: "2", Images: map[string][]byte{"root": shifted(image, 20)}, Blocks: true}
	if delta {
		spec.From = []*sim.Release{first}
	}
	if second, err = p.Release(spec); err == nil {
		err = p.Direct(second, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if m, err = sim.NewMachine(1, noon, blocksRoom, p.Root(), first, sim.Simulated); err != nil {
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
	return m, second
}

// install lets the machine do what it wants, and wants it to run r then.
func install(t *testing.T, m *sim.Machine, r *sim.Release) (served int64) {
	t.Helper()
	before := m.Net.Served()
	for range 8 {
		m.Process(sim.Once)
		m.SetTime(m.Clock().Now().Add(2 * time.Hour))
	}
	if m.Running() != r {
		t.Errorf("got %v running, want %v", m.Running(), r)
	}
	return m.Net.Served() - before
}

// blocksPath is where the release's block map lies; deltaPath its delta.
func blocksPath(r *sim.Release) string {
	return release.BlobPath(r.Manifest.Images[0].Blocks.SHA256)
}

// most is what the 21 blocks that release 1 lacks may cost: frames of two blocks, gaps,
// the map, and metadata.
func most(r *sim.Release) int64 {
	return 21*(2*release.BlockSize+1<<10) + r.Manifest.Images[0].Blocks.Head.Size + 64<<10
}

func TestAHostWithoutADeltaFetchesWhatItLacks(t *testing.T) {
	m, second := blockWorld(t, false)
	if got, want := install(t, m, second), most(second); got > want {
		t.Errorf("got %d bytes, want at most %d", got, want)
	}
}

func TestAHostWhoseDeltaIsDamagedFetchesWhatItLacks(t *testing.T) {
	for _, fault := range []sim.NetFault{sim.Flip, sim.Gone, sim.Page} {
		m, second := blockWorld(t, true)
		path := release.BlobPath(second.Manifest.Deltas[0].SHA256)
		m.Net.Fault = func(_ int, p string) sim.NetFault {
			if p == path {
				return fault
			}
			return sim.NoFault
		}
		if got, want := install(t, m, second), most(second)+second.Manifest.Deltas[0].Size; got > want {
			t.Errorf("%s: got %d bytes, want at most %d", fault, got, want)
		}
	}
}

func TestABlockThatIsRottenIsFetched(t *testing.T) {
	m, second := blockWorld(t, false)
	for i := range 10 {
		m.Disk(partitions.A, "root").Rot(int64(i*37+3) * release.BlockSize)
	}
	if got, want := install(t, m, second), most(second)+10*3*release.BlockSize; got > want {
		t.Errorf("got %d bytes, want at most %d", got, want)
	}
}

func TestWithAWrongTreeEverythingIsFetched(t *testing.T) {
	m, second := blockWorld(t, false)
	disk := m.Disk(partitions.A, "root")
	for at := int64(blocksSize); at < blocksSize+64<<10; at += 32 {
		disk.Rot(at)
	}
	install(t, m, second)
}

// A server whose blocks are wrong or gone costs the full image, and no more than that and
// a little.
func TestWrongBlocksEndWithTheFullImage(t *testing.T) {
	for _, fault := range []sim.NetFault{sim.Flip, sim.Truncate, sim.Gone, sim.Page, sim.Endless} {
		for _, late := range []bool{false, true} {
			m, second := blockWorld(t, false)
			path, asked := blocksPath(second), 0
			m.Net.Fault = func(_ int, p string) sim.NetFault {
				if p != path {
					return sim.NoFault
				}
				if asked++; late && asked < 4 {
					return sim.NoFault
				}
				return fault
			}
			if got, want := install(t, m, second), second.Manifest.Images[0].Full.Size+2*most(second); got > want {
				t.Errorf("%s, late %v: got %d bytes, want at most %d", fault, late, got, want)
			}
		}
	}
}

func TestAnInterruptedFillGoesOnWhereItWas(t *testing.T) {
	m, second := blockWorld(t, false)
	whole := install(t, m, second)
	for _, end := range []sim.End{sim.Killed, sim.PowerCut} {
		for n := 1; ; n += stride(29) {
			m, second := blockWorld(t, false)
			m.CutAt(n, end)
			got := install(t, m, second)
			if m.Pending() {
				break
			}
			if got > whole+whole {
				t.Errorf("%s at effect %d: got %d bytes, want at most %d", end, n, got, 2*whole)
			}
		}
	}
}

// One bad span in what was staged is mended by its blocks, not by a segment of 4 MiB.
func TestARottenSlotIsMendedByBlocks(t *testing.T) {
	m, second := blockWorld(t, false)
	asked := 0
	m.Net.Fault = func(_ int, p string) sim.NetFault {
		if p == blocksPath(second) {
			// By the fifteenth request most of the slot is written.
			if asked++; asked == 15 {
				m.Disk(partitions.B, "root").Rot(3 * release.BlockSize)
			}
		}
		return sim.NoFault
	}
	if got, want := install(t, m, second), 2*most(second); got > want {
		t.Errorf("got %d bytes, want at most %d", got, want)
	}
	if asked < 15 {
		t.Errorf("got %d requests: nothing was spoilt", asked)
	}
}

func TestWhyTellsThePriceOfEachRoute(t *testing.T) {
	m, _ := blockWorld(t, true)
	var why *agent.Why
	m.Process(func(a *agent.Agent) {
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbWhy}, nil)
		if err != nil {
			t.Fatal(err)
		}
		why = r.Why
	})
	var kinds []string
	for _, r := range why.Routes {
		kinds = append(kinds, r.Kind)
		if r.Chosen != (r.Kind == "delta") || r.Download <= 0 {
			t.Errorf("route %+v", r)
		}
	}
	if got := strings.Join(kinds, " "); got != "full delta blocks" {
		t.Errorf("got routes %s", got)
	}
	m, second := blockWorld(t, false)
	m.Process(func(a *agent.Agent) {
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbWhy}, nil)
		if err != nil {
			t.Fatal(err)
		}
		why = r.Why
	})
	if o := why.Offer; o == nil || o.Route != "blocks" || o.DownloadBytes >= second.Manifest.Images[0].Full.Size/4 {
		t.Errorf("got offer %+v", o)
	}
	before := m.Net.Served()
	m.Process(func(a *agent.Agent) {
		for range 3 {
			if _, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbWhy}, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
	if got, want := m.Net.Served()-before, second.Manifest.Images[0].Blocks.Head.Size+32<<10; got > want {
		t.Errorf("asked three times, got %d bytes, want one map, at most %d", got, want)
	}
}
