package histories

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
)

// noon is when every history begins.
func noon() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// Repository is what a server publishes in the course of a history: real metadata,
// manifests and containers, stage after stage.
type Repository struct {
	Root     []byte
	Factory  *sim.Release
	Manifest []byte // of Factory
	Releases []*sim.Release
	Apps     []*sim.App // none: releases bring none, and hosts want none
	Stages   []Stage
	Size     int64 // of a partition, bytes
	// Formats is the newest state format that the agent in a release reads.
	Formats  map[*sim.Release]int
	versions map[string]int64 // of metadata files, by content
}

// Stage is what the server says at one time.
type Stage struct {
	Files  map[string][]byte
	Wants  *sim.Release // the directive's
	Paused bool
	Down   bool     // hosts with something newer are to come down to it
	Web    *sim.App // the newest version of the application that hosts want for itself
}

// How many different repositories the histories share.
const (
	bare         = 12 // without applications
	repositories = bare + 4
)

// Shelf makes the repositories that histories share, each when it is first asked for.
type Shelf struct {
	verdicts [repositories]signing.Verdicts // of each repository: they have no file in common
	records  [repositories]agent.Records    // likewise: most of what is read more than once is signed
	plans    sim.Plans
	hashes   verity.Hashes
	searched sim.Searched
	memory   sim.Memory
	once     [repositories]sync.Once
	made     [repositories]*Repository
	errs     [repositories]error
}

// Get returns the repository of number n.
func (s *Shelf) Get(n int) (*Repository, error) {
	n %= repositories
	s.once[n].Do(func() { s.made[n], s.errs[n] = newRepository(n) })
	return s.made[n], s.errs[n]
}

// newRepository publishes release 1, then between five and seven others. Most are
// healthy, the last one is healthy in three of four repositories.
func newRepository(n int) (*Repository, error) {
	rng := rand.New(rand.NewPCG(uint64(n), 0x7265706f))
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p, err := sim.NewPublisher(dir, noon().AddDate(1, 0, 0))
	if err != nil {
		return nil, err
	}
	blocks := 2 + rng.IntN(4)
	if n%6 == 5 {
		blocks = 130 // two segments
	}
	images := map[string][]byte{"root": sim.Image(blocks*release.BlockSize, uint64(n))}
	if n%4 == 3 {
		images["boot"] = sim.Image(2*release.BlockSize, uint64(n)+100)
	}
	r := &Repository{Root: p.Root(), Formats: map[*sim.Release]int{}, versions: map[string]int64{}}
	releases := 6 + rng.IntN(3)
	newer := 2 + rng.IntN(releases-2) // from this release on, the agent writes format 2
	var apps *shop
	if n >= bare {
		apps = newShop(p, rng, r)
	}
	var last []*sim.Release
	for v := 1; v <= releases; v++ {
		spec := sim.Spec{Version: fmt.Sprint(v), Images: images, From: last, Behaviour: behaviour(rng, n, v, releases), Epoch: uint64(v / 4)}
		if apps != nil {
			if spec.Apps, err = apps.bundle(v, n%2 == 1); err != nil {
				return nil, err
			}
		}
		made, err := p.Release(spec)
		if err != nil {
			return nil, err
		}
		if r.Releases = append(r.Releases, made); v == 1 {
			r.Factory = made
		}
		r.Formats[made] = 1
		if v >= newer {
			r.Formats[made] = 2
		}
		if err := r.publish(p, rng, made, v == releases); err != nil {
			return nil, err
		}
		if apps != nil {
			if err := apps.publish(v, v == releases); err != nil {
				return nil, err
			}
		}
		last = append(last[max(0, len(last)-1):], made)
		next := map[string][]byte{}
		for name, b := range images {
			if next[name] = b; name == "root" || rng.IntN(3) == 0 {
				next[name] = sim.Edit(b, uint64(n*100+v))
			}
		}
		images = next
	}
	for _, b := range images {
		r.Size = max(r.Size, int64(len(b)))
	}
	r.Size += 4 * release.BlockSize // the hash tree
	if r.Manifest, err = r.Factory.Manifest.Encode(); err != nil {
		return nil, err
	}
	return r, r.note()
}

// behaviour draws what a release does.
func behaviour(rng *rand.Rand, n, v, releases int) sim.Behaviour {
	bad := sim.Unhealthy + sim.Behaviour(rng.IntN(int(sim.Mute)))
	switch {
	case v == 1, v == releases && n%4 != 1:
		return sim.Healthy
	case v == releases, v == 3 || v == 5, rng.IntN(5) == 0:
		return bad
	}
	return sim.Healthy
}

// publish adds the stages of one release: it is directed to, and now and then halted,
// withdrawn, or the fleet asked to come down.
func (r *Repository) publish(p *sim.Publisher, rng *rand.Rand, made *sim.Release, final bool) error {
	direct := func(to *sim.Release, paused, down bool) error {
		err := p.Direct(to, func(d *release.Directive) { d.Paused, d.ComeDown = paused, down })
		r.Stages = append(r.Stages, Stage{Files: p.Files(), Wants: to, Paused: paused, Down: down})
		return err
	}
	if rng.IntN(4) == 0 && !final {
		if err := direct(made, true, false); err != nil {
			return err
		}
	}
	if err := direct(made, false, false); err != nil {
		return err
	}
	if n := len(r.Releases); n > 1 && rng.IntN(3) == 0 && !final {
		return direct(r.Releases[n-2], false, rng.IntN(2) == 0)
	}
	return nil
}

// note reads the versions of all metadata files.
func (r *Repository) note() error {
	for _, s := range r.Stages {
		for name, b := range s.Files {
			base := path.Base(name)
			if path.Dir(name) != "metadata" || !strings.HasSuffix(base, "root.json") && !strings.HasSuffix(base, "timestamp.json") && !strings.HasSuffix(base, "snapshot.json") {
				continue
			}
			var m struct {
				Signed struct {
					Version int64 `json:"version"`
				} `json:"signed"`
			}
			if err := json.Unmarshal(b, &m); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			r.versions[string(b)] = m.Signed.Version
		}
	}
	return nil
}
