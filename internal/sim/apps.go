package sim

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
	"github.com/twinkeel/twinkeel/workloads"
)

// AppPublisher is who publishes the applications of a Publisher's repository.
const AppPublisher = "acme"

// App is a published application, and what it does.
type App struct {
	Manifest  *release.AppManifest
	Behaviour Behaviour // Healthy, Unhealthy, Flapping, Looping, or Unbootable: it takes the machine down
	Digest    release.Digest
	part      []byte
}

// AppSpec says what an application is made of.
type AppSpec struct {
	Name, Version string
	Image         []byte
	From          *App // to make a delta from; nil: none
	Behaviour     Behaviour
	Format        int // of its data
	Reads         int // newest format that it reads; 0: its own
	Change        func(*release.AppManifest)
}

// App makes the containers of an application and signs its manifest.
func (p *Publisher) App(s AppSpec) (*App, error) {
	version, err := release.ParseVersion(s.Version)
	if err != nil {
		return nil, err
	}
	updater, _ := release.ParseVersion("0.1")
	salt := release.Salt(bytes.Repeat([]byte{0x5a}, 16))
	part, root, err := withTree(s.Image, salt)
	if err != nil {
		return nil, err
	}
	full, err := p.container(nil, s.Image, salt)
	if err != nil {
		return nil, err
	}
	second := release.Duration(time.Second)
	m := &release.AppManifest{Format: release.AppFormat, Publisher: AppPublisher, Name: s.Name, Version: version, Attempt: 1,
		MinUpdater: updater, Arch: "any", Class: "app",
		Image:     release.Image{Name: release.AppImageName, Size: int64(len(s.Image)), Root: root, Salt: salt, Full: full},
		Run:       release.AppRun{Argv: []string{"/bin/app"}, Cwd: "/", UID: 1000, GID: 1000, Signal: "SIGTERM", Grace: second},
		Isolation: release.AppIsolation{Level: "container"},
		Limits:    release.AppLimits{Memory: 64 << 20, CPU: 500, Pids: 16, Files: 64, Tmp: 1 << 20, Log: 1 << 20},
		Network:   release.AppNetwork{Mode: "none"},
		Data:      []release.AppVolume{{Name: "db", Path: "/data", Class: "versioned", Quota: 1 << 20}},
		Health: release.AppHealth{TCP: 80, Start: 20 * second, Interval: 5 * second, Timeout: second, Failures: 2,
			Probation: 30 * second},
		Update: release.AppUpdate{Strategy: "stop-start", Restart: "always", DataFormat: s.Format, DataReads: max(s.Format, s.Reads)}}
	if s.From != nil {
		blob, err := p.delta(s.From.Manifest.Image, s.From.part[:s.From.Manifest.Image.Size], s.Image, salt)
		if err != nil {
			return nil, err
		}
		m.Deltas = []release.Delta{{Image: release.AppImageName, From: s.From.Manifest.Image.Root, Blob: blob}}
	}
	if s.Change != nil {
		s.Change(m)
	}
	digest, err := m.Digest()
	if err != nil {
		return nil, err
	}
	b, err := m.Encode()
	if err != nil {
		return nil, err
	}
	return &App{m, s.Behaviour, digest, part}, p.target(publisher.AppRole(AppPublisher), release.AppTargetName(AppPublisher, s.Name, version), b)
}

// Applications are what a machine has for them: images, data, and a runner whose
// processes outlive the agent but not the boot. It implements agent.AppData,
// by Images agent.AppImages, workloads.Runner and workloads.Prober.
type Applications struct {
	Room int // for the data that is copied at a time; 0: any
	w    *World
	apps []*App // all that were published

	disks   map[release.Digest]*Disk
	sealed  map[release.Digest]bool
	data    map[string]map[string]*volume // app → generation
	running map[string]*process
	trials  map[string]*process        // tried, where no client reaches them
	served  map[string]map[string]bool // app → versions that clients were led to
	made    int                        // generations so far
	starts  int                        // of applications so far
	kept    map[string]string          // app/generation → what it held when it was seen last
	mayRun  func(workloads.Unit)       // law 7
	mayTry  func(workloads.Unit)       // law 15
	mayRead func(workloads.Unit)       // law 7
	downs   func()                     // is called when one takes the machine down
}

// volume is the versioned data of one generation.
type volume struct {
	made    int
	content []byte
	format  int // the newest that something wrote to it
}

// process is a unit that was started.
type process struct {
	unit  workloads.Unit
	app   *App
	since time.Duration
}

// NewApplications gives a machine applications; published are all that it may meet.
func (m *Machine) NewApplications(published ...*App) *Applications {
	p := &Applications{w: m.World, apps: published, disks: map[release.Digest]*Disk{}, sealed: map[release.Digest]bool{},
		data: map[string]map[string]*volume{}, running: map[string]*process{}, trials: map[string]*process{}, served: map[string]map[string]bool{}, kept: map[string]string{}, mayRun: func(u workloads.Unit) { m.allOrNothing(u); m.dataIsGoneOnWith(u) }, mayTry: m.appTrialsEnd, mayRead: m.readsItsData, downs: m.downs}
	m.World.parts = append(m.World.parts, p)
	m.Apps = p
	m.Options.Apps = &agent.Apps{Arch: "amd64", Images: Images{p}, Data: p, Runner: p, Prober: p}
	return p
}

// A process ends with the boot, whatever ends that.
func (p *Applications) crash(Fate)   { clear(p.running); clear(p.trials) }
func (p *Applications) releaseLock() {}

func (p *Applications) unflushed() int { return 0 }

// OpenRead implements agent.AppImages.
func (p *Applications) OpenRead(root release.Digest) (partitions.OpenDevice, error) {
	if err := p.w.call(op{verb: "open image", name: root.Short()}); err != nil {
		return nil, err
	}
	if !p.sealed[root] {
		return nil, fmt.Errorf("open image %s: %w", root.Short(), fs.ErrNotExist)
	}
	return reader{p.disks[root]}, nil
}

// OpenWrite implements agent.AppImages.
func (p *Applications) OpenWrite(root release.Digest, size int64) (partitions.OpenDevice, error) {
	if p.disks[root] == nil {
		if err := p.w.effect(op{verb: "make image", name: root.Short()}); err != nil {
			return nil, err
		}
		p.disks[root] = p.w.NewDisk("image "+root.Short(), size, max(p.w.Sector, 512), release.BlockSize)
	}
	return p.disks[root], p.w.call(op{verb: "open image", name: root.Short()})
}

// Seal implements agent.AppImages.
func (p *Applications) Seal(root release.Digest) error {
	if err := p.w.effect(op{verb: "seal image", name: root.Short()}); err != nil {
		return err
	}
	p.sealed[root] = true
	return nil
}

// Path implements agent.AppImages.
func (p *Applications) Path(root release.Digest) string { return root.String() }

// Identity implements agent.AppImages. A new boot is the agent's to tell.
func (p *Applications) Identity(root release.Digest) workloads.Identity {
	d := p.disks[root]
	if d == nil || !p.sealed[root] {
		return workloads.Identity{}
	}
	return workloads.Identity{Inode: d.born, Changed: int64(d.stamp(false))}
}

// Image is the file of an image; nil: there is none.
func (p *Applications) Image(root release.Digest) *Disk { return p.disks[root] }

// List implements agent.AppImages.
func (p *Applications) List() ([]release.Digest, error) {
	var list []release.Digest
	for root := range p.disks {
		list = append(list, root)
	}
	slices.SortFunc(list, func(a, b release.Digest) int { return bytes.Compare(a[:], b[:]) })
	return list, p.w.call(op{verb: "list images"})
}

func (p *Applications) removeImage(root release.Digest) error {
	if err := p.w.effect(op{verb: "remove image", name: root.Short()}); err != nil {
		return err
	}
	delete(p.disks, root)
	delete(p.sealed, root)
	return nil
}

// Images is the part of the applications that keeps images.
type Images struct{ *Applications }

// Remove implements agent.AppImages.
func (i Images) Remove(root release.Digest) error { return i.removeImage(root) }

// Generations implements agent.AppData.
func (p *Applications) Generations(app string) ([]workloads.Generation, error) {
	var list []workloads.Generation
	for name, v := range p.data[app] {
		list = append(list, workloads.Generation{Name: name, Made: time.Unix(int64(v.made), 0), Bytes: int64(len(v.content))})
	}
	slices.SortFunc(list, func(a, b workloads.Generation) int { return a.Made.Compare(b.Made) })
	return list, p.w.call(op{verb: "list data", name: app})
}

// Apps implements agent.AppData.
func (p *Applications) Apps() ([]string, error) {
	return slices.Sorted(maps.Keys(p.data)), p.w.call(op{verb: "list data"})
}

// CheckClone implements agent.AppData.
func (p *Applications) CheckClone(_ context.Context, _ time.Duration, from ...workloads.Origin) error {
	if err := p.w.call(op{verb: "check clone"}); err != nil {
		return err
	}
	sum := 0
	for _, o := range from {
		if v := p.data[o.App][o.Generation]; v != nil {
			sum += len(v.content)
		}
	}
	return p.room(sum)
}

// room is that for a copy of data, as it is checked beforehand, and again while it is made.
func (p *Applications) room(need int) error {
	if p.Room > 0 && need > p.Room {
		return fmt.Errorf("got %d bytes of data, want %d: %w", need, p.Room, workloads.ErrNoRoom)
	}
	return nil
}

// Clone implements agent.AppData. The copy beside is nothing that anybody looks at; the
// rename is the effect that counts.
func (p *Applications) Clone(_ context.Context, app, from, to string) error {
	if p.data[app][to] != nil {
		return p.w.call(op{verb: "clone is there", name: app, file: to})
	}
	// A rehearsal's copy is dropped again: what it misses is not lost.
	if q := p.running[app]; q != nil && q.unit.Generation == from && q.writes() && to != "rehearsal" {
		p.w.Break("law 6: data %s of app %s is cloned while version %s writes to it", from, app, q.app.Manifest.Version)
	}
	var content []byte
	format := 0
	if from != "" {
		base := p.data[app][from]
		if base == nil {
			return fmt.Errorf("clone data of %s: generation %s: %w", app, from, fs.ErrNotExist)
		}
		content, format = slices.Clone(base.content), base.format
	}
	if err := p.room(len(content)); err != nil {
		return err
	}
	for _, verb := range []string{"copy data", "rename data"} {
		if err := p.w.effect(op{verb: verb, name: app, file: to}); err != nil {
			return err
		}
	}
	if p.data[app] == nil {
		p.data[app] = map[string]*volume{}
	}
	p.made++
	p.data[app][to] = &volume{p.made, content, format}
	return nil
}

// Volumes implements agent.AppData.
func (p *Applications) Volumes(app, generation string, _ *release.AppManifest) (map[string]string, error) {
	if p.data[app][generation] == nil {
		return nil, fmt.Errorf("data of %s: generation %s: %w", app, generation, fs.ErrNotExist)
	}
	return map[string]string{"db": app + "/" + generation}, p.w.call(op{verb: "open data", name: app, file: generation})
}

// Remove implements agent.AppData.
func (p *Applications) Remove(app, generation string) error {
	if p.data[app][generation] == nil {
		return p.w.call(op{verb: "remove data that is not there", name: app, file: generation})
	}
	if err := p.w.effect(op{verb: "remove data", name: app, file: generation}); err != nil {
		return err
	}
	delete(p.data[app], generation)
	return nil
}

// Running returns version and data of an application that runs.
func (p *Applications) Running(name string) (version string, data []byte) {
	if q := p.running[name]; q != nil {
		return q.app.Manifest.Version.String(), p.data[name][q.unit.Generation].content
	}
	return "", nil
}

// Data returns what the generations of an application hold.
func (p *Applications) Data(name string) map[string]string {
	m := map[string]string{}
	for g, v := range p.data[name] {
		m[g] = string(v.content)
	}
	return m
}
