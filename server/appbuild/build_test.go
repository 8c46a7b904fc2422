package appbuild

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/twinkeel/twinkeel/internal/erofs"
	"github.com/twinkeel/twinkeel/release"
)

// member is an entry of a layer: a header that is mostly filled in, and its content.
type member struct {
	tar.Header
	body string
}

func file(name, body string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, body}
}

func dir(name string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}

func link(kind byte, name, target string) member {
	return member{tar.Header{Name: name, Typeflag: kind, Linkname: target, Mode: 0o777}, ""}
}

func layer(t testing.TB, members ...member) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Size = int64(len(m.body))
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func container1(t testing.TB, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", "amd64", config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

func saveLayout(t testing.TB, img v1.Image) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	return dir
}

func saveTar(t testing.TB, img v1.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	tag, err := name.NewTag("web:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(path, tag, img); err != nil {
		t.Fatal(err)
	}
	return path
}

const minimal = `publisher = "acme"
name = "web"
version = "1.2"
`

func spec(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func build(t testing.TB, from, text string) (*Result, *release.AppManifest, error) {
	t.Helper()
	r, err := Build(context.Background(), Options{From: from, Manifest: spec(t, text), Output: t.TempDir()})
	if err != nil {
		return nil, nil, err
	}
	b, err := os.ReadFile(r.Draft)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ReadDraft(b)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := m.Digest(); err != nil || d != r.Digest {
		t.Errorf("digest: got %s of the draft, %v, want %s", d, err, r.Digest)
	}
	return r, m, nil
}

// contents returns the files of a built image.
func contents(t testing.TB, image string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]string{}
	err = erofs.Walk(bytes.NewReader(b), int64(len(b)), func(f erofs.File) error {
		for _, e := range f.Extents {
			list[f.Path] += string(b[e.Offset : e.Offset+e.Length])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var webConfig = v1.Config{
	Entrypoint: []string{"/bin/web", "-v"}, Cmd: []string{"serve"}, Env: []string{"B=2", "A=1", "PATH=/bin"}, User: "www:adm", WorkingDir: "/srv",
	ExposedPorts: map[string]struct{}{"8080/tcp": {}}, Volumes: map[string]struct{}{"/var/lib/web/": {}, "/cache": {}}, StopSignal: "3",
	Healthcheck: &v1.HealthConfig{Test: []string{"CMD-SHELL", "web check"}, Interval: 7 * time.Second, Retries: 5},
}

func web(t testing.TB) v1.Image {
	base := layer(t, dir("etc/"), file("etc/passwd", "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/srv:/bin/sh\n"),
		file("./etc/group", "root:x:0:\nadm:x:4:www\n"), file("bin/web", "old"), file("bin/gone", "x"),
		dir("usr/lib"), link(tar.TypeSymlink, "lib", "usr/lib"), file("opt/a/b", "below"), file("opt/c", "below"), dir("srv"))
	top := layer(t, file("bin/.wh.gone", ""), file("bin/web", "new web"), link(tar.TypeLink, "bin/web2", "bin/web"),
		file("opt/a/.wh..wh..opq", ""), file("opt/a/n", "above"), file("lib/module", "through a link"), link(tar.TypeSymlink, "abs", "/etc/passwd"))
	return container1(t, webConfig, base, top)
}

func TestSameAppFromTarLayoutAndRegistry(t *testing.T) {
	img := web(t)
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer s.Close()
	ref, err := name.ParseReference(strings.TrimPrefix(s.URL, "http://") + "/acme/web:1.2")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	var first *Result
	var bits []byte
	for _, from := range []string{saveTar(t, img), saveTar(t, img), saveLayout(t, img), ref.Name()} {
		r, _, err := build(t, from, minimal)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(r.Image)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first, bits = r, b
		}
		if r.Digest != first.Digest || !bytes.Equal(b, bits) {
			t.Errorf("%s: got digest %s, want %s", from, r.Digest, first.Digest)
		}
		left, _ := os.ReadDir(filepath.Dir(r.Image))
		if len(left) != 2 {
			t.Errorf("%s: got %d files beside the result", from, len(left)-2)
		}
	}
}

func TestLayersLieOnTopOfEachOther(t *testing.T) {
	r, _, err := build(t, saveTar(t, web(t)), minimal)
	if err != nil {
		t.Fatal(err)
	}
	got := contents(t, r.Image)
	want := map[string]string{"bin/web": "new web", "opt/a/n": "above", "opt/c": "below", "usr/lib/module": "through a link"}
	for path, body := range want {
		if got[path] != body && got[path+"2"] != body {
			t.Errorf("%s: got %q, want %q", path, got[path], body)
		}
	}
	for _, path := range []string{"bin/gone", "opt/a/b", "bin/.wh.gone", "lib/module"} {
		if _, there := got[path]; there {
			t.Errorf("%s is in the image", path)
		}
	}
}

func TestManifestIsCompletedFromTheImage(t *testing.T) {
	_, m, err := build(t, saveTar(t, web(t)), minimal+"skipVolumes = [\"/cache\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	r := m.Run
	if !slices.Equal(r.Argv, []string{"/bin/web", "-v", "serve"}) || !slices.Equal(r.Env, []string{"A=1", "B=2", "PATH=/bin"}) ||
		r.Cwd != "/srv" || r.UID != 33 || r.GID != 4 || r.Signal != "SIGQUIT" {
		t.Errorf("run: got %+v", r)
	}
	if len(m.Data) != 1 || m.Data[0] != (release.AppVolume{Name: "var-lib-web", Path: "/var/lib/web", Class: "versioned", Quota: 1 << 30}) {
		t.Errorf("data: got %+v", m.Data)
	}
	h := m.Health
	if !slices.Equal(h.Exec, []string{"/bin/sh", "-c", "web check"}) || time.Duration(h.Interval) != 7*time.Second || h.Failures != 5 {
		t.Errorf("health: got %+v", h)
	}
	if m.Network.Mode != "private" || m.Arch != "amd64" || m.Class != "app" || m.Isolation.Level != "container" {
		t.Errorf("got %+v", m)
	}
}

func TestSpecHasTheLastWord(t *testing.T) {
	_, m, err := build(t, saveTar(t, web(t)), minimal+`
class = "system"
after = ["z", "db"]
[run]
argv = ["/bin/web", "other"]
user = "1000"
signal = "term"
grace = "3s"
env = {B = "9", C = "c"}
[limits]
memory = "64M"
[[network.publish]]
name = "http"
host = 80
app = 8080
[[data]]
path = "/var/lib/web"
class = "shared"
quota = "2G"
[health]
http = ":8080/ok"
[[permissions]]
name = "publish-low"
[meta]
notes = "n"
`)
	if err != nil {
		t.Fatal(err)
	}
	if m.Run.UID != 1000 || m.Run.GID != 0 || m.Run.Signal != "SIGTERM" || !slices.Equal(m.Run.Env, []string{"A=1", "B=9", "C=c", "PATH=/bin"}) ||
		m.Limits.Memory != 64<<20 || m.Network.Publish[0].Proto != "tcp" || len(m.Data) != 2 || m.Data[1].Class != "shared" ||
		m.Data[1].Quota != 2<<30 || m.Health.HTTP != ":8080/ok" || len(m.Health.Exec) != 0 || !slices.Equal(m.After, []string{"db", "z"}) || m.Class != "system" {
		t.Errorf("got %+v", m)
	}
}

func TestBadSpecsAreRefusedWithLineAndKey(t *testing.T) {
	from := saveTar(t, web(t))
	for text, want := range map[string]string{
		minimal + "[limits]\nmemroy = \"1M\"\n":                                                                        "line 5: unknown key limits.memroy",
		minimal + "[limits]\nmemory = \"much\"\n":                                                                      "line 5",
		minimal + "[limits]\nmemory = \"9000000G\"\n":                                                                  "limits: memory",
		minimal + "[limits]\nmemory = \"99999999999999G\"\n":                                                           "size",
		minimal + "[limits]\npids = -1\n":                                                                              "limits: pids",
		minimal + "[run]\nuser = \"nobody-here\"\n":                                                                    "/etc/passwd does not know it",
		minimal + "[run]\nuser = \"0:nobody-here\"\n":                                                                  "/etc/group does not know it",
		minimal + "[run]\nsignal = \"SIGFOO\"\n":                                                                       "signal",
		minimal + "[run]\nargv = [\"/bin/absent\"]\n":                                                                  "it is not in the image",
		minimal + "[run]\ncwd = \"/bin/web\"\n":                                                                        "no directory",
		minimal + "[[permissions]]\nname = \"everything\"\n":                                                           "permission",
		minimal + "[[data]]\npath = \"data\"\n":                                                                        "absolute path",
		minimal + "[[data]]\npath = \"/srv\"\nclass = \"big\"\n":                                                       "class",
		minimal + "[health]\nhttp = \":1/x\"\ntcp = 2\n":                                                               "kinds of check",
		minimal + "[update]\ndataFormat = 5\ndataReads = 4\n":                                                          "data format",
		`name = "x"` + "\nversion = \"1\"\n":                                                                           "publisher",
		strings.Replace(minimal, "web", "We/b", 1):                                                                     "name",
		minimal + "[[data]]\nname=\"d\"\npath=\"/bin/web/sub\"\n":                                                      "/bin/web/sub: a host has to mount something there",
		minimal + "[[network.publish]]\nname=\"a\"\nhost=80\napp=1\n[[network.publish]]\nname=\"b\"\nhost=80\napp=2\n": "stands twice",
		minimal + "[[network.publish]]\nname=\"a\"\nhost=80\napp=1\n[[network.publish]]\nname=\"a\"\nhost=81\napp=2\n": "stands twice",
		minimal + "[[data]]\nname=\"d\"\npath=\"/srv\"\n[[data]]\nname=\"d\"\npath=\"/srv2\"\n":                        "stands twice",
	} {
		if _, _, err := build(t, from, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\ngot %v, want %q", text, err, want)
		}
	}
}

func FuzzSpec(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("[limits]\nmemory = \"64M\"\n[[data]]\npath = \"/x\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSpec(b); err == nil && s == nil {
			t.Error("neither a spec nor an error")
		}
	})
}
