package release_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/release"
)

func web(t testing.TB) *release.AppManifest {
	t.Helper()
	d := func(v time.Duration) release.Duration { return release.Duration(v) }
	return &release.AppManifest{
		Format: 1, Publisher: "acme", Name: "web", Version: version(t, "2.3.1"), Attempt: 1, MinUpdater: version(t, "0.1"),
		Arch: "amd64", Class: "app",
		Image: release.Image{Name: "app", Size: 8192, Root: digest(1), Salt: release.Salt{1},
			Full: release.Blob{SHA256: digest(2), Size: 100, Head: release.Head{SHA256: digest(3), Size: 10}}},
		Run:         release.AppRun{Argv: []string{"/bin/web"}, Env: []string{"A=1", "B=2"}, Cwd: "/", UID: 1000, GID: 1000, Signal: "SIGTERM", Grace: d(10 * time.Second)},
		Isolation:   release.AppIsolation{Level: "container"},
		Limits:      release.AppLimits{Memory: 64 << 20, CPU: 500, Pids: 64, Files: 1024, Tmp: 16 << 20, Log: 1 << 20},
		Network:     release.AppNetwork{Mode: "private", Publish: []release.AppPort{{Name: "http", Proto: "tcp", Host: 80, App: 8080}}},
		Data:        []release.AppVolume{{Name: "db", Path: "/data", Class: "versioned", Quota: 1 << 30}},
		Health:      release.AppHealth{HTTP: ":8080/health", Start: d(30 * time.Second), Interval: d(time.Second), Timeout: d(time.Second), Failures: 3, Probation: d(time.Minute)},
		Update:      release.AppUpdate{Strategy: "parallel", Restart: "always", DataFormat: 1, DataReads: 1},
		Permissions: []release.AppPermission{{Name: "outbound", Value: "*:443"}},
	}
}

func TestAnAppManifestHasOneSpelling(t *testing.T) {
	b, err := web(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := release.DecodeAppManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Encode()
	if err != nil || !bytes.Equal(again, b) {
		t.Fatalf("got %s, %v, want %s", again, err, b)
	}
	for name, bad := range map[string]string{
		"null list":                    strings.Replace(string(b), `"after":[]`, `"after":null`, 1),
		"unknown field":                strings.Replace(string(b), `"format":1`, `"format":1,"x":1`, 1),
		"other spelling of a duration": strings.Replace(string(b), `"grace":"10s"`, `"grace":"10000ms"`, 1),
	} {
		if _, err := release.DecodeAppManifest([]byte(bad)); err == nil {
			t.Errorf("%s: accepted: %s", name, bad)
		}
	}
}

func TestAnAppIsWhatRunsAndHow(t *testing.T) {
	first, err := web(t).Digest()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*release.AppManifest)
		same   bool
	}{
		"attempt":    {func(m *release.AppManifest) { m.Attempt = 2 }, true},
		"transport":  {func(m *release.AppManifest) { m.Image.Full.SHA256 = digest(9) }, true},
		"notes":      {func(m *release.AppManifest) { m.Meta = map[string]string{"a": "b"} }, true},
		"image":      {func(m *release.AppManifest) { m.Image.Root = digest(9) }, false},
		"command":    {func(m *release.AppManifest) { m.Run.Argv = []string{"/bin/other"} }, false},
		"permission": {func(m *release.AppManifest) { m.Permissions = nil }, false},
		"version":    {func(m *release.AppManifest) { m.Version = version(t, "2.3.2") }, false},
	} {
		m := web(t)
		c.change(m)
		if d, err := m.Digest(); err != nil || (d == first) != c.same {
			t.Errorf("%s: same digest: got %t (%v), want %t", name, d == first, err, c.same)
		}
	}
}

func TestABadAppManifestIsRefusedForItsReason(t *testing.T) {
	for want, change := range map[string]func(*release.AppManifest){
		"format":    func(m *release.AppManifest) { m.Format = 2 },
		"name":      func(m *release.AppManifest) { m.Name = "../x" },
		"attempt":   func(m *release.AppManifest) { m.Attempt = 0 },
		"arch":      func(m *release.AppManifest) { m.Arch = "vax" },
		"isolation": func(m *release.AppManifest) { m.Isolation.Level = "none" },
		"arguments": func(m *release.AppManifest) { m.Run.Argv = nil },
		"variable":  func(m *release.AppManifest) { m.Run.Env = []string{"B=1", "A=1"} },
		"cwd":       func(m *release.AppManifest) { m.Run.Cwd = "/a/../b" },
		"user":      func(m *release.AppManifest) { m.Run.UID = 1 << 20 },
		"memory":    func(m *release.AppManifest) { m.Limits.Memory = 0 },
		"pids":      func(m *release.AppManifest) { m.Limits.Pids = -1 },
		"ports":     func(m *release.AppManifest) { m.Network.Mode = "none" },
		"twice":     func(m *release.AppManifest) { m.Network.Publish = append(m.Network.Publish, m.Network.Publish[0]) },
		"socket s":  func(m *release.AppManifest) { m.Network.Sockets = []release.AppSocket{{Name: "s", Listen: "80"}} },
		"lie in one another": func(m *release.AppManifest) {
			m.Data = append(m.Data, release.AppVolume{Name: "e", Path: "/data/e", Class: "cache", Quota: 1 << 20})
		},
		"below /":        func(m *release.AppManifest) { m.Data[0].Path = "/" },
		"kinds of check": func(m *release.AppManifest) { m.Health.TCP = 80 },
		"health: http":   func(m *release.AppManifest) { m.Health.HTTP = "http://elsewhere/" },
		"health: start":  func(m *release.AppManifest) { m.Health.Start = 0 },
		"reads up to":    func(m *release.AppManifest) { m.Update.DataFormat = 3 },
		"after web":      func(m *release.AppManifest) { m.After = []string{"web"} },
		"permission":     func(m *release.AppManifest) { m.Permissions[0].Name = "everything" },
		"kernel belongs": func(m *release.AppManifest) { m.Isolation.Kernel = "/vmlinuz" },
		"size":           func(m *release.AppManifest) { m.Image.Size = 5 },
		"limits: memory": func(m *release.AppManifest) { m.Limits.Memory = 1<<40 + 1 },
		"limits: cpu":    func(m *release.AppManifest) { m.Limits.CPU = 1<<20 + 1 },
		"limits: pids":   func(m *release.AppManifest) { m.Limits.Pids = 1<<20 + 1 },
		"limits: files":  func(m *release.AppManifest) { m.Limits.Files = 1 << 30 },
		"limits: tmp":    func(m *release.AppManifest) { m.Limits.Tmp = 1 << 62 },
		"limits: log":    func(m *release.AppManifest) { m.Limits.Log = -1 },
		"quota":          func(m *release.AppManifest) { m.Data[0].Quota = 1 << 60 },
		"run: grace":     func(m *release.AppManifest) { m.Run.Grace = release.Duration(time.Hour) },
		"bytes, want":    func(m *release.AppManifest) { m.Run.Argv = []string{strings.Repeat("x", 33<<10)} },
		"a number is missing, or its name": func(m *release.AppManifest) {
			m.Network.Publish = []release.AppPort{{Name: "a", Proto: "tcp", Host: 80, App: 1}, {Name: "b", Proto: "tcp", Host: 80, App: 2}}
		},
		"or name or address stand": func(m *release.AppManifest) {
			m.Network.Sockets = []release.AppSocket{{Name: m.Network.Publish[0].Name, Listen: "127.0.0.1:99"}}
		},
		"volumes are not sorted": func(m *release.AppManifest) {
			m.Data = append(m.Data, release.AppVolume{Name: m.Data[0].Name, Path: "/elsewhere", Class: "cache", Quota: 1 << 20})
		},
		"delta 0": func(m *release.AppManifest) { m.Deltas = []release.Delta{{Image: "app"}} },
	} {
		m := web(t)
		change(m)
		if _, err := m.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestAnOutboundDestinationIsAnAddressAndAPort(t *testing.T) {
	for value, want := range map[string]string{
		"": "0.0.0.0/0 0", "*:*": "0.0.0.0/0 0", "*:53": "0.0.0.0/0 53", "192.0.2.1:443": "192.0.2.1/32 443",
		"192.0.2.0/24:*": "192.0.2.0/24 0", "10.0.0.0/8:65535": "10.0.0.0/8 65535",
	} {
		d, err := release.ParseDestination(value)
		if got := fmt.Sprint(d.To, " ", d.Port); err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", value, got, err, want)
		}
	}
	for _, value := range []string{
		"example.org:443", "192.0.2.1", "192.0.2.1:", ":443", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:+1", "192.0.2.1:0443", "192.0.2.1/24:1",
		"192.0.2.0/33:1", "[2001:db8::1]:443", "2001:db8::/32:443", "192.0.2.1:80-90", "192.0.2.1:443:tcp", "*", "/8:1", "192.0.2.1/-1:1", " 192.0.2.1:1",
	} {
		if d, err := release.ParseDestination(value); err == nil || !strings.Contains(err.Error(), "outbound") {
			t.Errorf("%q: got %v, %v, want an error", value, d, err)
		}
		if err := release.CheckPermission(release.AppPermission{Name: release.Outbound, Value: value}); err == nil {
			t.Errorf("%q: a manifest may ask for it", value)
		}
	}
}

func FuzzDecodeAppManifest(f *testing.F) {
	b, err := web(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := release.DecodeAppManifest(b)
		if err != nil {
			return
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("got %s, %v, want %s", again, err, b)
		}
	})
}

func TestAnAppDirectiveHasOneSpelling(t *testing.T) {
	d := &release.AppDirective{Format: 1, Channel: "stable", Publisher: "acme", Name: "web", Version: version(t, "2.3.1"), Permille: 250, Salt: "s", NotBefore: time.Unix(0, 0).UTC()}
	b, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := release.DecodeAppDirective(b)
	if err != nil || *again != *d {
		t.Fatalf("got %+v, %v", again, err)
	}
	for name, bad := range map[string]string{
		"unknown field":  strings.Replace(string(b), `"format":1`, `"format":1,"x":1`, 1),
		"newer format":   strings.Replace(string(b), `"format":1`, `"format":2`, 1),
		"permille":       strings.Replace(string(b), `"permille":250`, `"permille":1001`, 1),
		"path as name":   strings.Replace(string(b), `"name":"web"`, `"name":"../web"`, 1),
		"no publisher":   strings.Replace(string(b), `"acme"`, `""`, 1),
		"no version":     strings.Replace(string(b), `2.3.1`, ``, 1),
		"white space":    string(b) + " ",
		"time elsewhere": strings.Replace(string(b), `00:00:00Z`, `00:00:00+01:00`, 1),
	} {
		if _, err := release.DecodeAppDirective([]byte(bad)); err == nil {
			t.Errorf("%s: accepted: %s", name, bad)
		}
	}
}

func TestAppsHaveGoldenEncodings(t *testing.T) {
	m := web(t)
	m.Meta = map[string]string{"notes": "a <b> & c"}
	manifest, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	directive, err := (&release.AppDirective{Format: 1, Channel: "stable", Publisher: "acme", Name: "web", Version: version(t, "2.3.1"),
		Permille: 250, Salt: "s", NotBefore: time.Unix(1800000000, 0).UTC()}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"app.json": manifest, "app.digest": []byte(digest.String() + "\n"), "app-directive.json": directive} {
		path := filepath.Join(vectors, name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s (%v)", name, got, want, err)
		}
	}
}

func FuzzAppDirective(f *testing.F) {
	v, err := release.ParseVersion("1")
	if err != nil {
		f.Fatal(err)
	}
	b, err := (&release.AppDirective{Format: 1, Channel: "stable", Publisher: "acme", Name: "web", Version: v, NotBefore: time.Unix(0, 0).UTC()}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := release.DecodeAppDirective(b)
		if err != nil {
			return
		}
		if again, err := d.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: has a second spelling: %s, %v", b, again, err)
		}
	})
}

func TestLevelsOfIsolationHaveAnOrder(t *testing.T) {
	levels := []string{"", "container", "sandbox", "vm"}
	for i, got := range levels {
		for j, want := range levels {
			if less := release.IsolatesLess(got, want); less != (i < j) {
				t.Errorf("%q below %q: got %t", got, want, less)
			}
		}
	}
}
