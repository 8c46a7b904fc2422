package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// DeployedApp is one application of a deployment: which version, on which generation of
// its data.
type DeployedApp struct {
	Publisher  string          `json:"publisher"`
	Name       string          `json:"name"`
	Version    release.Version `json:"version"`
	App        release.Digest  `json:"app"` // release.AppManifest.Digest
	Attempt    uint64          `json:"attempt"`
	Image      DeployedImage   `json:"image"`
	Generation string          `json:"generation"`
	// Base is the generation that Generation is cloned from before the app starts; "": it
	// begins empty. Once the deployment is committed, Base no longer counts.
	Base string `json:"base,omitempty"`
	// Bundled says that a release of the OS brought it.
	Bundled bool `json:"bundled,omitempty"`
}

// App returns the deployment's application called name.
func (d *Deployment) App(name string) (DeployedApp, bool) {
	if d != nil {
		for _, w := range d.Workloads {
			if w.Name == name {
				return w, true
			}
		}
	}
	return DeployedApp{}, false
}

// AppPhase is where a transaction of applications stands.
type AppPhase string

// The phases, in their order: idle → staging → switching → trial → idle, and on the way
// back switching or trial → reverting → idle.
const (
	AppIdle      AppPhase = "idle"
	AppStaging   AppPhase = "staging"   // images are fetched; nothing that runs is touched
	AppSwitching AppPhase = "switching" // what runs is stopped, its data cloned, the pointer turned; or the new set is tried beside it first
	AppTrial     AppPhase = "trial"     // the new set runs and is judged
	AppReverting AppPhase = "reverting" // the old set is brought back
)

// AppTransaction is the journal of applications. While it is not idle, no trial of the OS
// is armed; while one is armed, it stays idle.
type AppTransaction struct {
	Seq   uint64          `json:"seq"`
	Phase AppPhase        `json:"phase"`
	Kind  string          `json:"kind,omitempty"` // install, update, rollback, restore, remove
	Slot  partitions.Slot `json:"slot"`           // whose pointer is turned
	From  uint64          `json:"from,omitempty"` // deployment numbers
	To    uint64          `json:"to,omitempty"`
	// Before is what the pointer called previous when the transaction began.
	Before uint64   `json:"before,omitempty"`
	Apps   []string `json:"apps,omitempty"` // that change
	// Strategy is how they take the place of what runs, chosen when switching begins:
	// parallel or socket; "": stop-start.
	Strategy string    `json:"strategy,omitempty"`
	Boots    AppBoots  `json:"boots,omitzero"` // in which the new set was started
	Verdict  *Reason   `json:"verdict,omitempty"`
	Evidence []string  `json:"evidence,omitempty"`
	Force    bool      `json:"force,omitempty"`
	Reason   string    `json:"reason,omitempty"` // the operator's
	Started  time.Time `json:"started,omitzero"`
	Bytes    int64     `json:"bytes,omitempty"`
	// Adopting is set, in any phase, while the pointer of the running slot is turned to the
	// newest data after a fallback.
	Adopting bool `json:"adopting,omitempty"`
}

// The records of the directory "apps" in the state directory. Manifests are
// manifest-DIGEST.json.
const (
	dirApps    = "apps"
	fileApps   = "choices.json"
	fileLive   = "live.json"
	fileParked = "parked.json"
)

// appChoice is what an operator decided about one application.
type appChoice struct {
	Hold    *Hold           `json:"hold,omitempty"`
	Pin     release.Version `json:"pin,omitzero"`
	Stopped bool            `json:"stopped,omitempty"`
	Grants  []string        `json:"grants,omitempty"` // permissions, as name or name=value
}

type appChoices struct {
	Apps map[string]appChoice `json:"apps"`
}

// liveApp is the newest committed data of an application, whatever slot runs.
type liveApp struct {
	Generation string `json:"generation"`
	DataFormat int    `json:"dataFormat"`
}

type liveRecord struct {
	Apps map[string]liveApp `json:"apps"`
}

// parked says why a generation is not live; for people.
type parked struct {
	App        string          `json:"app"`
	Generation string          `json:"generation"`
	Version    release.Version `json:"version"`
	Text       string          `json:"text"`
	Time       time.Time       `json:"time"`
}

type parkedRecord struct {
	Entries []parked `json:"entries"`
}

// manifestRecord keeps a signed manifest as it was verified.
type manifestRecord struct {
	Raw []byte `json:"raw"`
}

// appState is the store below the state directory, made when it is first needed.
func (a *Agent) appState() (*store, error) {
	a.appsOpen.Lock() // questions are answered at any time
	defer a.appsOpen.Unlock()
	if a.appStore == nil {
		if a.st.dir == nil {
			return nil, a.st.missing()
		}
		dir, err := a.st.dir.Sub(dirApps)
		if err != nil {
			return nil, &Refusal{Reason{CodeState, err.Error()}, err}
		}
		a.appStore = &store{dir: dir, reads: a.st.reads, writes: a.st.writes, known: a.st.known}
	}
	return a.appStore, nil
}

// loadApps reads a record of applications, or leaves v as it is where there is none.
func (a *Agent) loadApps(name string, v any) error {
	s, err := a.appState()
	if err != nil {
		return err
	}
	return s.loadOr(name, v)
}

func (a *Agent) saveApps(name string, v any) error {
	s, err := a.appState()
	if err != nil {
		return err
	}
	return s.save(name, v)
}

// keepManifest keeps the signed manifest of an application, as it was read. Without it an
// application that is deployed could not start again.
func (a *Agent) keepManifest(app release.Digest, raw []byte) error {
	s, err := a.appState()
	if err != nil {
		return err
	}
	return s.saveTwice(appManifestFile(app), &manifestRecord{raw})
}

const appManifestPrefix = "manifest-"

func appManifestFile(d release.Digest) string { return appManifestPrefix + d.String() + ".json" }

// appManifest returns the manifest of an application that is deployed or being staged.
func (a *Agent) appManifest(app release.Digest) (*release.AppManifest, error) {
	var r manifestRecord
	s, err := a.appState()
	if err != nil {
		return nil, err
	}
	if err := s.loadTwice(appManifestFile(app), &r); err != nil {
		return nil, err
	}
	m, got, err := a.st.known.app(r.Raw)
	if err != nil {
		return nil, err
	}
	if got != app {
		return nil, fmt.Errorf("manifest of app %s: %w: digest: got %s, want %s", m.Name, errDamaged, got.Short(), app.Short())
	}
	return m, nil
}

// choices reads what operators decided. It is never guessed: where both copies are damaged,
// all is held.
func (a *Agent) choices() (appChoices, error) {
	s, err := a.appState()
	if err != nil {
		return appChoices{}, err
	}
	var c appChoices
	if err = s.loadTwice(fileApps, &c); absent(err) {
		err = nil
	}
	if c.Apps == nil {
		c.Apps = map[string]appChoice{}
	}
	return c, err
}

func (a *Agent) saveChoices(c *appChoices) error {
	s, err := a.appState()
	if err != nil {
		return err
	}
	return s.saveTwice(fileApps, c)
}

// mendApps makes the two copies of what is kept twice alike again, once in a process.
func (a *Agent) mendApps() error {
	if a.appsMended {
		return nil
	}
	s, err := a.appState()
	if err != nil {
		return err
	}
	if err := s.mend(fileApps, &appChoices{}); err != nil {
		return err
	}
	names, err := s.dir.List()
	if err != nil {
		return err
	}
	for _, n := range names {
		if !strings.HasPrefix(n, appManifestPrefix) {
			continue
		}
		if err := s.mend(firstOf(n), &manifestRecord{}); err != nil {
			return err
		}
	}
	a.appsMended = true
	return nil
}

// live returns the newest committed data of each app. A damaged record is rebuilt from
// the deployment of the slot that stands.
func (a *Agent) live(m machine) (map[string]liveApp, error) {
	r := liveRecord{Apps: map[string]liveApp{}}
	err := a.loadApps(fileLive, &r)
	if err == nil && r.Apps != nil {
		return r.Apps, nil
	}
	if err != nil && !errors.Is(err, errDamaged) {
		return nil, err
	}
	r = liveRecord{Apps: map[string]liveApp{}}
	slot := m.boot.Slot
	if next, ok := m.record.Next(); ok && m.record.Slots[next].Successful {
		slot = next
	}
	p, err := a.st.pointer(slot)
	if err != nil {
		return nil, err
	}
	d, err := a.st.deployment(p.Current)
	if err != nil || d == nil {
		return r.Apps, err
	}
	for _, w := range d.Workloads {
		r.Apps[w.Name] = liveApp{w.Generation, a.dataFormat(w)}
	}
	return r.Apps, a.saveApps(fileLive, &r)
}

// dataRank says how well the data on this host fits a deployment: 0, its applications run on
// the newest that was committed; 1, on some that is there; 2, on some that is not.
func (a *Agent) dataRank(d *Deployment) int {
	if a.o.Apps == nil {
		return 0
	}
	var r liveRecord
	_ = a.loadApps(fileLive, &r) // a damaged one is rebuilt from the pointer that this is asked for
	rank := 0
	for _, w := range d.Workloads {
		list, err := a.o.Apps.Data.Generations(w.Name)
		there := slices.ContainsFunc(list, func(g workloads.Generation) bool { return g.Name == w.Generation })
		switch {
		case err != nil || !there:
			return 2
		case r.Apps[w.Name].Generation != w.Generation:
			rank = 1
		}
	}
	return rank
}

func (a *Agent) dataFormat(w DeployedApp) int {
	mf, err := a.appManifest(w.App)
	if err != nil {
		return 0
	}
	return mf.Update.DataFormat
}

// commitLive makes the data of a deployment the newest committed one. What an application
// wrote that is not part of it stays the newest of its own: it goes on with that when it
// comes back, and until then that is no parked data.
func (a *Agent) commitLive(m machine, d *Deployment) error {
	if a.o.Apps == nil || d == nil {
		return nil
	}
	old, err := a.live(m)
	if err != nil {
		return err
	}
	next := maps.Clone(old)
	for _, w := range d.Workloads {
		next[w.Name] = liveApp{w.Generation, a.dataFormat(w)}
	}
	if len(next) == 0 {
		return nil
	}
	// Also if it reads as it has to: whoever wrote it may have been killed before it was durable.
	return a.saveApps(fileLive, &liveRecord{next})
}

// forgetLive lets an application that no deployment has begin without data when it comes
// back, if this generation is what it would go on with.
func (a *Agent) forgetLive(name, generation string) error {
	var r liveRecord
	if err := a.loadApps(fileLive, &r); err != nil || r.Apps[name].Generation != generation {
		return err
	}
	delete(r.Apps, name)
	return a.saveApps(fileLive, &r)
}

// goesOn is the data that an application which does not run goes on with; "" if there is none,
// or none that it reads.
func (a *Agent) goesOn(m machine, w DeployedApp) (string, error) {
	live, err := a.live(m)
	if err != nil {
		return "", err
	}
	l, has := live[w.Name]
	if !has {
		return "", nil
	}
	if there, err := a.hasGeneration(w.Name, l.Generation); err != nil || !there {
		return "", err
	}
	mf, err := a.appManifest(w.App)
	if err != nil || mf.Update.DataReads < l.DataFormat {
		return "", err
	}
	return l.Generation, nil
}

// noteParked writes down why generations leave.
func (a *Agent) noteParked(list []DeployedApp, text string) error {
	if len(list) == 0 {
		return nil
	}
	var r parkedRecord
	if err := a.loadApps(fileParked, &r); err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	for _, w := range list {
		known := slices.ContainsFunc(r.Entries, func(p parked) bool { return p.App == w.Name && p.Generation == w.Generation })
		if !known {
			r.Entries = append(r.Entries, parked{w.Name, w.Generation, w.Version, text, a.now()})
		}
	}
	if n := len(r.Entries); n > maxHistory {
		r.Entries = r.Entries[n-maxHistory:]
	}
	return a.saveApps(fileParked, &r)
}

// granted reports whether a list of "name" and "name=value" has the permission.
func granted(list []string, p release.AppPermission) bool {
	for _, g := range list {
		name, value, exact := strings.Cut(g, "=")
		if name == p.Name && (!exact || value == p.Value) {
			return true
		}
	}
	return false
}
