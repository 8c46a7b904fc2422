package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/signing/publisher"
	"github.com/twinkeel/twinkeel/signing/translog"
)

// InitOptions describe a new site.
type InitOptions struct {
	Profile   Profile
	Channels  []string
	Kind      publisher.Kind
	Spare     string // directory of the spare root key (solo); "": keys/spare
	Lifetimes Lifetimes
	Log       translog.Mode // what hosts demand of the release log; "": Require
	// Public is a directory with the public halves of the keys of people, NAME.pub. If it
	// is set, only the server's own keys are made here, and the site begins with a proposal
	// that those people sign wherever their keys are.
	Public string
}

// InitResult says what was made.
type InitResult struct {
	Format      int      `json:"format"`
	Dir         string   `json:"dir"`
	Profile     Profile  `json:"profile"`
	Channels    []string `json:"channels"`
	FactoryRoot string   `json:"factoryRoot"` // the file that hosts are made with
	RootSHA256  string   `json:"rootSha256"`
	Spare       string   `json:"spare,omitempty"` // where the spare root key lies
	SpareMoved  bool     `json:"spareMoved"`      // whether that is outside the site
	Keys        []NewKey `json:"keys"`

	// Proposal begins the repository once it is signed; nil if it has begun.
	Proposal *publisher.Proposal `json:"-"`
}

// NewKey is one key that was made.
type NewKey struct {
	Name      string   `json:"name"`
	ID        string   `json:"id"`
	Path      string   `json:"path"`
	Encrypted bool     `json:"encrypted"`
	Roles     []string `json:"roles"`
}

// Init makes a site: keys, the first root and an empty, signed repository. site.json is
// written last; without it a directory is no site.
func Init(ctx context.Context, dir string, in InitOptions, o Options) (*InitResult, error) {
	if err := in.Lifetimes.check(); err != nil {
		return nil, err
	}
	state, err := durable.OpenDir(dir, true)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	s := &Site{dir: dir, state: state, medium: osMedium{}, opt: o.withDefaults(),
		settings: Settings{Format: settingsFormat, Profile: in.Profile, Lifetimes: in.Lifetimes}}
	if err := s.lock(); err != nil {
		return nil, err
	}
	defer s.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("init %s: the directory is not empty", dir)
	}
	for name, mode := range map[string]os.FileMode{"keys": 0o700, "staging": 0o700, "repository": 0o755} {
		if err := s.medium.Mkdir(filepath.Join(dir, name), mode); err != nil {
			return nil, fmt.Errorf("init: %w", err)
		}
	}
	// Whoever serves the repository has to pass through the directory above it; all else
	// in there has modes of its own.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	if err := s.medium.SyncDir(dir); err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	return s.init(ctx, in)
}

func (s *Site) init(ctx context.Context, in InitOptions) (*InitResult, error) {
	ring, err := publisher.OpenRing(s.opt.Passphrase)
	if err != nil {
		return nil, err
	}
	plan, keys, err := s.makeKeys(in, ring)
	if err != nil {
		return nil, err
	}
	r := &InitResult{Format: 1, Dir: s.dir, Profile: in.Profile, Keys: keys, FactoryRoot: s.repo("metadata/1.root.json")}
	for _, c := range plan.Channels {
		r.Channels = append(r.Channels, c.Name)
	}
	if in.Public != "" {
		if r.Proposal, err = publisher.Draft(*plan); err != nil {
			return nil, err
		}
	} else if r.RootSHA256, err = s.begin(ctx, *plan, ring); err != nil {
		return nil, err
	}
	b, err := s.settings.encode()
	if err != nil {
		return nil, err
	}
	if err := s.state.Replace("site.json", b); err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	if in.Profile == Solo && in.Public == "" {
		r.Spare, r.SpareMoved = s.spareDir(in), in.Spare != ""
	}
	return r, s.record("init", map[string]any{"profile": in.Profile, "channels": r.Channels, "root": r.RootSHA256})
}

// begin publishes an empty repository that the keys of the ring sign.
func (s *Site) begin(ctx context.Context, plan publisher.Plan, ring *publisher.Ring) (root string, err error) {
	set, files, err := publisher.New(plan, ring)
	if err != nil {
		return "", err
	}
	return s.beginWith(ctx, set, ring, files)
}

// beginWith writes the first files, and a release log without entries before them.
func (s *Site) beginWith(ctx context.Context, set *publisher.Set, ring *publisher.Ring, files []publisher.File) (root string, err error) {
	p, had, err := set.Log()
	if err != nil {
		return "", err
	}
	if had {
		checkpoint, err := sealCheckpoint(ring, translog.Empty(p.Origin), p.Keys)
		if err != nil {
			return "", err
		}
		files = append([]publisher.File{{Path: translog.CheckpointPath, Data: checkpoint}}, files...)
	}
	_, digest := set.RootVersion()
	return fmt.Sprintf("%x", digest), s.write(ctx, set, files)
}

func (s *Site) spareDir(in InitOptions) string {
	if in.Spare != "" {
		return in.Spare
	}
	return filepath.Join(s.dir, "keys", "spare")
}

// keyMaker makes and saves keys and remembers them.
type keyMaker struct {
	ring   *publisher.Ring
	kind   publisher.Kind
	pass   []byte
	public string // InitOptions.Public
	made   map[string]publisher.PublicKey
	plan   *publisher.Plan
	sheet  []NewKey
	err    error
}

// authority makes the named keys, or takes those that are made, for a role.
func (m *keyMaker) authority(role string, threshold int, dir string, encrypted bool, names ...string) publisher.Authority {
	a := publisher.Authority{Threshold: threshold}
	for _, name := range names {
		k, ok := m.made[name]
		if !ok {
			k = m.make(name, dir, encrypted)
		}
		for i := range m.sheet {
			if m.sheet[i].Name == name {
				m.sheet[i].Roles = append(m.sheet[i].Roles, role)
			}
		}
		a.Keys = append(a.Keys, k)
	}
	return a
}

func (m *keyMaker) make(name, dir string, encrypted bool) publisher.PublicKey {
	if m.err != nil {
		return publisher.PublicKey{}
	}
	if m.public != "" && encrypted {
		return m.take(name, dir)
	}
	kind := m.kind
	if name == logKeyName {
		kind = publisher.Ed25519 // the only kind that signs checkpoints
	}
	key, err := publisher.Generate(kind)
	if err != nil {
		m.err = err
		return publisher.PublicKey{}
	}
	var pass []byte
	if encrypted {
		pass = m.pass
	}
	if m.err = publisher.SaveKey(dir, name, key, pass); m.err != nil {
		return publisher.PublicKey{}
	}
	m.ring.Hold(name, key)
	m.made[name] = key.Public
	m.plan.Names[key.Public.ID] = name
	m.sheet = append(m.sheet, NewKey{Name: name, ID: key.Public.ID, Path: filepath.Join(dir, name+".pem"), Encrypted: encrypted})
	return key.Public
}

// take takes the public half of a key that somebody else keeps.
func (m *keyMaker) take(name, dir string) publisher.PublicKey {
	key, err := publisher.ReadPublic(filepath.Join(m.public, name+".pub"))
	if err == nil {
		err = publisher.SavePublic(dir, name, key)
	}
	if err != nil {
		m.err = fmt.Errorf("init: %w", err)
		return publisher.PublicKey{}
	}
	for other, k := range m.made {
		if k.ID == key.ID {
			m.err = fmt.Errorf("init: %s.pub and %s.pub are the same key", other, name)
		}
	}
	m.made[name] = key
	m.plan.Names[key.ID] = name
	m.sheet = append(m.sheet, NewKey{Name: name, ID: key.ID})
	return key
}

// makeKeys makes the keys of a profile and says who signs what.
func (s *Site) makeKeys(in InitOptions, ring *publisher.Ring) (*publisher.Plan, []NewKey, error) {
	if in.Profile != Solo && in.Profile != Company {
		return nil, nil, fmt.Errorf("init: got profile %q, want %s or %s", in.Profile, Solo, Company)
	}
	if len(in.Channels) == 0 {
		return nil, nil, errors.New("init: want at least one channel")
	}
	pass, err := s.initPassphrase(in)
	if err != nil {
		return nil, nil, err
	}
	keys := filepath.Join(s.dir, "keys")
	m := &keyMaker{ring: ring, kind: in.Kind, pass: pass, public: in.Public, made: map[string]publisher.PublicKey{},
		plan: &publisher.Plan{Names: map[string]string{}, Now: s.opt.Now(), Expires: s.expires}}
	p := m.plan
	if in.Profile == Solo {
		if in.Public == "" {
			spare := s.spareDir(in)
			if err := os.MkdirAll(spare, 0o700); err != nil {
				return nil, nil, fmt.Errorf("init: %w", err)
			}
			m.make("root-spare", spare, true)
		}
		p.Root = m.authority(publisher.RoleRoot, 1, keys, true, "root", "root-spare")
		p.Targets = m.authority(publisher.RoleTargets, 1, keys, true, "targets")
	} else {
		p.Root = m.authority(publisher.RoleRoot, 3, keys, true, numbered("root", 5)...)
		p.Targets = m.authority(publisher.RoleTargets, 2, keys, true, numbered("targets", 3)...)
	}
	for _, c := range slices.Compact(slices.Sorted(slices.Values(in.Channels))) {
		p.Channels = append(p.Channels, publisher.Channel{Name: c, Releases: m.releases(in.Profile, c, keys),
			Fleet: m.authority(publisher.FleetRole(c), 1, keys, false, "fleet")})
	}
	p.Snapshot = m.authority(publisher.RoleSnapshot, 1, keys, false, "snapshot")
	p.Timestamp = m.authority(publisher.RoleTimestamp, 1, keys, false, "timestamp")
	log := m.make(logKeyName, keys, false)
	if m.err != nil {
		return nil, nil, m.err
	}
	delete(p.Names, log.ID) // it is named by the policy, not by root or targets
	m.sheet[len(m.sheet)-1].Roles = []string{"the release log"}
	p.Log = &translog.Policy{Mode: in.Log, Origin: logOrigin(log)}
	if in.Log == "" {
		p.Log.Mode = translog.Require
	}
	text, err := log.LogKey(p.Log.Origin)
	p.Log.Keys = []string{text}
	return p, m.sheet, err
}

// initPassphrase returns the passphrase of the keys of people that are made here.
func (s *Site) initPassphrase(in InitOptions) ([]byte, error) {
	if in.Public != "" {
		return nil, nil
	}
	if s.opt.Passphrase == nil {
		return nil, errors.New("init: a passphrase is needed for the keys of people")
	}
	pass, err := s.opt.Passphrase()
	if err == nil && len(pass) == 0 {
		err = errors.New("init: the passphrase is empty")
	}
	return pass, err
}

// releases says who signs the releases of a channel. In a company, stable takes two
// people, edge is signed by the build system, and every other channel takes one person.
func (m *keyMaker) releases(profile Profile, channel, dir string) publisher.Authority {
	role := publisher.OSRole(channel)
	switch {
	case profile == Solo:
		return m.authority(role, 1, dir, true, "release")
	case channel == "edge":
		return m.authority(role, 1, dir, true, "ci")
	case channel == "stable":
		return m.authority(role, 2, dir, true, numbered("release", 3)...)
	}
	return m.authority(role, 1, dir, true, numbered("release", 3)...)
}

func numbered(name string, n int) []string {
	var names []string
	for i := range n {
		names = append(names, name+"-"+strconv.Itoa(i+1))
	}
	return names
}
