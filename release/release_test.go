package release_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/release"
)

var update = flag.Bool("update", false, "write the golden files anew")

const vectors = "../testdata/manifest"

func version(t testing.TB, s string) release.Version {
	t.Helper()
	v, err := release.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func digest(b byte) (d release.Digest) {
	for i := range d {
		d[i] = b
	}
	return d
}

func sample(t testing.TB) *release.Manifest {
	blob := release.Blob{SHA256: digest(3), Size: 1000, Head: release.Head{SHA256: digest(4), Size: 100}}
	blocks := release.Blob{SHA256: digest(6), Size: 2000, Head: release.Head{SHA256: digest(8), Size: 300}}
	return &release.Manifest{
		Format: 1, Version: version(t, "2026.11.21.1"), Compatible: "example-amd64", Epoch: 1, Attempt: 1,
		MinUpdater: version(t, "0.1.0"),
		Images: []release.Image{
			{Name: "boot", Size: 8192, Root: digest(1), Salt: release.Salt{9}, Full: blob},
			{Name: "root", Size: 1 << 20, Root: digest(2), Salt: release.Salt{}, Full: blob, Blocks: blocks},
		},
		Deltas: []release.Delta{{Image: "root", From: digest(7), Blob: blob}},
		Apps:   []release.App{{Publisher: "acme", Name: "web", Version: "2.3.1", Digest: digest(5)}},
		Meta:   map[string]string{"notes": "a <b> & c"},
	}
}

func TestManifestHasOneGoldenEncoding(t *testing.T) {
	got, err := sample(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(vectors, "sample.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	m, err := release.DecodeManifest(want)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.Encode(); err != nil || !bytes.Equal(again, want) {
		t.Errorf("decoded and encoded again: %v\n%s", err, again)
	}
}

func TestManifestRefusesEverySecondSpelling(t *testing.T) {
	b, err := sample(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	for name, bad := range map[string]string{
		"unknown field":       strings.Replace(good, `{"format"`, `{"extra":1,"format"`, 1),
		"repeated field":      strings.Replace(good, `"epoch":1`, `"epoch":1,"epoch":1`, 1),
		"reordered":           strings.Replace(good, `"epoch":1,"attempt":1`, `"attempt":1,"epoch":1`, 1),
		"other case":          strings.Replace(good, `"epoch"`, `"Epoch"`, 1),
		"white space":         strings.Replace(good, `,"epoch"`, `, "epoch"`, 1),
		"trailing newline":    good + "\n",
		"trailing value":      good + "{}",
		"null list":           strings.Replace(good, `"apps":[{"publisher":"acme","name":"web","version":"2.3.1","digest":"`+digest(5).String()+`"}]`, `"apps":null`, 1),
		"number as float":     strings.Replace(good, `"size":1000`, `"size":1e3`, 1),
		"upper-case digest":   strings.Replace(good, digest(7).String(), strings.ToUpper(release.DigestOf(nil).String()), 1),
		"leading zero":        strings.Replace(good, "2026.11.21.1", "2026.11.21.01", 1),
		"negative size":       strings.Replace(good, `"size":8192`, `"size":-8192`, 1),
		"overflowing size":    strings.Replace(good, `"size":8192`, `"size":9223372036854775808`, 1),
		"size no multiple":    strings.Replace(good, `"size":8192`, `"size":8193`, 1),
		"huge image":          strings.Replace(good, `"size":8192`, `"size":137438953472`, 1),
		"images not sorted":   strings.Replace(good, `"name":"boot"`, `"name":"zoot"`, 1),
		"image twice":         strings.Replace(good, `"name":"boot"`, `"name":"root"`, 1),
		"name as path":        strings.Replace(good, `"name":"boot"`, `"name":"../x"`, 1),
		"delta of no image":   strings.Replace(good, `"image":"root"`, `"image":"none"`, 1),
		"delta from itself":   strings.Replace(good, digest(7).String(), digest(2).String(), 1),
		"attempt zero":        strings.Replace(good, `"attempt":1`, `"attempt":0`, 1),
		"newer format":        strings.Replace(good, `"format":1`, `"format":2`, 1),
		"no version":          strings.Replace(good, "2026.11.21.1", "", 1),
		"salt too long":       strings.Replace(good, `"salt":"09"`, `"salt":"`+strings.Repeat("00", 33)+`"`, 1),
		"head beyond blob":    strings.Replace(good, `"size":100}`, `"size":1001}`, 1),
		"blocks head beyond":  strings.Replace(good, `"size":300}`, `"size":2001}`, 1),
		"blocks of nothing":   strings.Replace(good, `"salt":"09",`, `"salt":"09","blocks":{},`, 1),
		"control character":   strings.Replace(good, "example-amd64", "example\\u001b", 1),
		"escaped differently": strings.Replace(good, "a <b> & c", `a \u003cb\u003e \u0026 c`, 1),
	} {
		if bad == good {
			t.Errorf("%s: the case does not change the manifest", name)
			continue
		}
		if _, err := release.DecodeManifest([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for n := range b {
		if _, err := release.DecodeManifest(b[:n]); err == nil {
			t.Fatalf("truncated at %d: accepted", n)
		}
	}
	if _, err := release.DecodeManifest(bytes.Repeat([]byte(" "), release.MaxManifestSize+1)); err == nil {
		t.Error("oversized: accepted")
	}
}

func TestDeploymentDigestIsOfBitsOnly(t *testing.T) {
	base := sample(t).Deployment()
	for name, c := range map[string]struct {
		change func(*release.Manifest)
		same   bool
	}{
		"version":     {func(m *release.Manifest) { m.Version = version(t, "9") }, true},
		"attempt":     {func(m *release.Manifest) { m.Attempt = 9 }, true},
		"epoch":       {func(m *release.Manifest) { m.Epoch = 9 }, true},
		"deltas":      {func(m *release.Manifest) { m.Deltas = nil }, true},
		"payload":     {func(m *release.Manifest) { m.Images[0].Full.SHA256 = digest(99) }, true},
		"block map":   {func(m *release.Manifest) { m.Images[0].Blocks = m.Images[1].Blocks }, true},
		"root":        {func(m *release.Manifest) { m.Images[0].Root = digest(99) }, false},
		"image name":  {func(m *release.Manifest) { m.Images[0].Name = "aoot" }, false},
		"app digest":  {func(m *release.Manifest) { m.Apps[0].Digest = digest(99) }, false},
		"app dropped": {func(m *release.Manifest) { m.Apps = nil }, false},
	} {
		m := sample(t)
		c.change(m)
		if got := m.Deployment() == base; got != c.same {
			t.Errorf("%s changed: same digest: got %v, want %v", name, got, c.same)
		}
	}
}

func TestVersionsCompareNumberByNumber(t *testing.T) {
	ordered := []string{"0", "0.0.1", "0.9", "0.10", "1", "1.0.0.1", "1.2", "1.10", "2026.11.21", "2026.11.21.1", "2147483647"}
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := version(t, a).Compare(version(t, b)); got != want {
				t.Errorf("%s against %s: got %d, want %d", a, b, got, want)
			}
		}
	}
	if version(t, "1.2").Compare(version(t, "1.2.0.0")) != 0 {
		t.Error("1.2 and 1.2.0.0 differ in order")
	}
	for _, bad := range []string{"", ".", "1.", ".1", "1..2", "01", "1.2.3.4.5", "-1", "+1", "1 ", "a", "2147483648", "99999999999999999999", "1e3"} {
		if v, err := release.ParseVersion(bad); err == nil {
			t.Errorf("%q: accepted as %s", bad, v)
		}
	}
}

func TestWideningARolloutTakesNoHostOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := release.Directive{Salt: rapid.String().Draw(t, "salt"), Permille: rapid.IntRange(0, 1000).Draw(t, "permille")}
		host := rapid.String().Draw(t, "host")
		wider := d
		wider.Permille = rapid.IntRange(d.Permille, 1000).Draw(t, "wider")
		if d.Includes(host) && !wider.Includes(host) {
			t.Fatalf("host %q is in at %d and out at %d", host, d.Permille, wider.Permille)
		}
		d.Permille = 1000
		if !d.Includes(host) {
			t.Fatalf("host %q is not in a full rollout", host)
		}
	})
}

func TestDirectiveRefusesWhatItCannotMean(t *testing.T) {
	good := release.Directive{Format: 1, Channel: "stable", Version: version(t, "1.2"), Permille: 50, Salt: "s", NotBefore: time.Unix(1e9, 0).UTC(), PollInterval: "30m"}
	b, err := good.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := release.DecodeDirective(b); err != nil || *got != good {
		t.Fatalf("round trip: got %+v, %v", got, err)
	}
	for name, change := range map[string]func(*release.Directive){
		"format":       func(d *release.Directive) { d.Format = 2 },
		"channel":      func(d *release.Directive) { d.Channel = "a/b" },
		"no version":   func(d *release.Directive) { d.Version = release.Version{} },
		"permille":     func(d *release.Directive) { d.Permille = 1001 },
		"negative":     func(d *release.Directive) { d.Permille = -1 },
		"poll too low": func(d *release.Directive) { d.PollInterval = "1s" },
		"poll no time": func(d *release.Directive) { d.PollInterval = "soon" },
		"local time":   func(d *release.Directive) { d.NotBefore = time.Unix(1e9, 0).In(time.FixedZone("x", 3600)) },
		"long salt":    func(d *release.Directive) { d.Salt = strings.Repeat("x", 65) },
	} {
		d := good
		change(&d)
		if _, err := d.Encode(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What parses is written again as the same bytes.
func FuzzManifest(f *testing.F) {
	b, err := sample(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := release.DecodeManifest(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%v: got %s, want %s", err, again, b)
		}
	})
}

func FuzzDirective(f *testing.F) {
	f.Add([]byte(`{"format":1,"channel":"stable","version":"1","permille":1000,"salt":"","notBefore":"0001-01-01T00:00:00Z","paused":false,"comeDown":false,"pollInterval":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := release.DecodeDirective(b)
		if err != nil {
			return
		}
		again, err := d.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%v: got %s, want %s", err, again, b)
		}
	})
}
