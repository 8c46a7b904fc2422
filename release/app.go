package release

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"path"
	"strings"
	"time"
)

// Limits on what the manifest of an application may say.
const (
	MaxAppManifestSize = 256 << 10 // bytes of an encoded manifest
	MaxAppWords        = 256       // arguments or variables
	MaxAppText         = 32 << 10  // bytes of all arguments and variables
	MaxAppItems        = 32        // ports, sockets, volumes, permissions or apps before it
)

// AppFormat is the application manifest format that this code writes and reads.
const AppFormat = 1

// AppImageName is what an application's one image is called.
const AppImageName = "app"

// AppManifest describes one release of an application: one EROFS image and what runs in
// it. Source of the format: docs/format-app.md.
type AppManifest struct {
	Format    int     `json:"format"`
	Publisher string  `json:"publisher"`
	Name      string  `json:"name"`
	Version   Version `json:"version"`
	// Attempt offers the same bits again to hosts that have denied them.
	Attempt    uint64  `json:"attempt"`
	MinUpdater Version `json:"minUpdater"`
	Arch       string  `json:"arch"` // amd64, arm64, or any
	// Class system starts before class app, and may be granted more.
	Class       string            `json:"class"`
	Image       Image             `json:"image"`
	Deltas      []Delta           `json:"deltas"`
	Run         AppRun            `json:"run"`
	Isolation   AppIsolation      `json:"isolation"`
	Limits      AppLimits         `json:"limits"`
	Network     AppNetwork        `json:"network"`
	Data        []AppVolume       `json:"data"`
	Health      AppHealth         `json:"health"`
	Update      AppUpdate         `json:"update"`
	After       []string          `json:"after"` // apps that run before it starts
	Permissions []AppPermission   `json:"permissions"`
	Meta        map[string]string `json:"meta"`
}

// AppRun is the process of an application.
type AppRun struct {
	Argv   []string `json:"argv"`
	Env    []string `json:"env"` // NAME=value, sorted by name, each name once
	Cwd    string   `json:"cwd"` // absolute
	UID    uint32   `json:"uid"` // inside the app's user namespace
	GID    uint32   `json:"gid"`
	Signal string   `json:"signal"` // asks it to end, such as SIGTERM
	Grace  Duration `json:"grace"`  // before it is killed
}

// AppIsolation is the least that has to stand between app and host.
type AppIsolation struct {
	Level string `json:"level"` // see CheckIsolation
	// Kernel is the path in the image of a unikernel or kernel that level vm boots;
	// empty: the host's own.
	Kernel string `json:"kernel,omitempty"`
}

// AppLimits are enforced always; zero is not "none" but refused.
type AppLimits struct {
	Memory int64 `json:"memory"` // bytes
	CPU    int   `json:"cpu"`    // thousandths of a processor
	Pids   int   `json:"pids"`
	Files  int   `json:"files"` // open at once, in each process
	Tmp    int64 `json:"tmp"`   // bytes of /tmp and /run
	Log    int64 `json:"log"`   // bytes of output that are kept
}

// AppNetwork is what an application sees of the network.
type AppNetwork struct {
	Mode    string      `json:"mode"` // none, private or host
	Publish []AppPort   `json:"publish"`
	Sockets []AppSocket `json:"sockets"`
}

// AppPort leads from a port of the host to one of a private network.
type AppPort struct {
	Name  string `json:"name"`
	Proto string `json:"proto"` // tcp or udp
	Host  uint16 `json:"host"`
	App   uint16 `json:"app"`
}

// AppSocket is a listening socket that the host keeps and hands over (LISTEN_FDS).
type AppSocket struct {
	Name   string `json:"name"`
	Listen string `json:"listen"` // address:port
}

// AppVolume is data that outlives a process.
type AppVolume struct {
	Name string `json:"name"`
	Path string `json:"path"` // absolute, in the app
	// Class versioned goes back with the app; shared never does; identity belongs to
	// the host and is never copied; cache may be dropped.
	Class string `json:"class"`
	Quota int64  `json:"quota"` // bytes
}

// AppHealth tells a good version from a bad one. At most one kind of check is set; none
// means that running is enough.
type AppHealth struct {
	HTTP      string   `json:"http,omitempty"` // :port/path, inside the app's network
	TCP       uint16   `json:"tcp,omitempty"`
	Exec      []string `json:"exec,omitempty"` // inside the container
	Start     Duration `json:"start"`          // until the first success is due
	Interval  Duration `json:"interval"`
	Timeout   Duration `json:"timeout"`
	Failures  int      `json:"failures"`  // in a row that make it unhealthy
	Probation Duration `json:"probation"` // healthy for so long after an update: committed
}

// AppUpdate says how a version takes another's place.
type AppUpdate struct {
	Strategy string `json:"strategy"` // stop-start, parallel or socket
	Restart  string `json:"restart"`  // always, on-failure or never
	// DataFormat is the format in which it writes its versioned data, DataReads the
	// newest one that it reads: a fallback starts no app on data that it cannot read.
	DataFormat int `json:"dataFormat"`
	DataReads  int `json:"dataReads"`
}

// AppPermission is something beyond the default, which the host's policy has to grant.
type AppPermission struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// Duration is a time span, written as Go writes it ("30s").
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// AppTargetName is the TUF target name of an application's manifest.
func AppTargetName(publisher, name string, v Version) string {
	return "apps/" + publisher + "/" + name + "/" + v.String() + ".json"
}

// Encode returns the canonical bytes of m, or why m is not a valid manifest.
func (m *AppManifest) Encode() ([]byte, error) {
	c := m.filled()
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("encode manifest of app %s %s: %w", m.Name, m.Version, err)
	}
	return encode(&c)
}

// filled is m without nil lists: null would be a second spelling of "none".
func (m *AppManifest) filled() AppManifest {
	c := *m
	fill(&c.Deltas)
	fill(&c.Run.Argv)
	fill(&c.Run.Env)
	fill(&c.Network.Publish)
	fill(&c.Network.Sockets)
	fill(&c.Data)
	fill(&c.After)
	fill(&c.Permissions)
	if c.Meta == nil {
		c.Meta = map[string]string{}
	}
	return c
}

func fill[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}

// DecodeAppManifest reads a canonical manifest from anybody.
func DecodeAppManifest(b []byte) (*AppManifest, error) {
	var m AppManifest
	if err := decode(b, MaxAppManifestSize, &m); err != nil {
		return nil, fmt.Errorf("app manifest: %w", err)
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("app manifest: %w", err)
	}
	if again, err := m.Encode(); err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("app manifest: a list or map is null")
	}
	return &m, nil
}

// Digest is the application's identity: what runs and how, whatever attempt, transport
// and deltas surround it. A release of the OS names apps by it, and denials are by it.
func (m *AppManifest) Digest() (Digest, error) {
	c := m.filled()
	c.Attempt, c.Deltas, c.Meta = 1, []Delta{}, map[string]string{}
	c.Image.Full, c.Image.Blocks = Blob{}, Blob{}
	b, err := encode(&c)
	if err != nil {
		return Digest{}, fmt.Errorf("digest of app %s %s: %w", m.Name, m.Version, err)
	}
	h := sha256.New()
	h.Write([]byte("twinkeel app 1\n"))
	h.Write(b)
	return Digest(h.Sum(nil)), nil
}

// Delta returns the delta that leads from the image with root from.
func (m *AppManifest) Delta(from Digest) (Delta, bool) {
	for _, d := range m.Deltas {
		if d.From == from {
			return d, true
		}
	}
	return Delta{}, false
}

// Validate reports the first thing in m that no valid manifest says.
func (m *AppManifest) Validate() error {
	if m.Format != AppFormat {
		return fmt.Errorf("format: got %d, want %d", m.Format, AppFormat)
	}
	for what, s := range map[string]string{"publisher": m.Publisher, "name": m.Name} {
		if err := CheckName(what, s); err != nil {
			return err
		}
	}
	switch {
	case m.Version.IsZero() || m.MinUpdater.IsZero():
		return fmt.Errorf("version or minUpdater is missing")
	case m.Attempt < 1:
		return fmt.Errorf("attempt: got %d, want at least 1", m.Attempt)
	case m.Image.Name != AppImageName:
		return fmt.Errorf("image name: got %q, want %q", m.Image.Name, AppImageName)
	}
	for _, c := range []struct{ what, got, among string }{
		{"arch", m.Arch, "any amd64 arm64"}, {"class", m.Class, "app system"},
		{"isolation", m.Isolation.Level, isolationLevels}, {"network mode", m.Network.Mode, "none private host"},
		{"strategy", m.Update.Strategy, "stop-start parallel socket"}, {"restart", m.Update.Restart, "always on-failure never"},
	} {
		if err := oneOf(c.what, c.got, c.among); err != nil {
			return err
		}
	}
	images := Manifest{Images: []Image{m.Image}, Deltas: m.Deltas}
	for _, check := range []func() error{
		images.validateImages, images.validateDeltas, m.Run.validate, m.Limits.validate, m.Network.validate,
		m.validateData, m.Health.validate, m.validateRest,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func oneOf(what, got, among string) error {
	for _, w := range strings.Fields(among) {
		if got == w {
			return nil
		}
	}
	return fmt.Errorf("%s: got %.40q, want one of: %s", what, got, among)
}

// checkPath refuses a path that is not absolute and clean.
func checkPath(what, p string) error {
	if !strings.HasPrefix(p, "/") || path.Clean(p) != p || len(p) > 255 || strings.ContainsFunc(p, control) {
		return fmt.Errorf("%s: got %.80q, want an absolute path without . or .., at most 255 bytes", what, p)
	}
	return nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }
