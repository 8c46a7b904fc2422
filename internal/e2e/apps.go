package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/vm"
	"github.com/twinkeel/twinkeel/release"
)

// app is the version of the application that a release names; "": it names none. The system of
// 2.0 is good and that of 2.2 is not, with the same application; that of 2.11 is good, and its
// application is not.
func (l loader) app(version string) string {
	if l.variant != hasApps.variant {
		return ""
	}
	switch version {
	case "1.0":
		return "1.0"
	case "2.11":
		return "3.0"
	}
	return "2.0"
}

// appKinds are what package examples/apps/notes makes of its versions.
var appKinds = map[string]string{"1.0": "1", "2.0": "2", "3.0": "broken"}

// wanted is what the configuration says of applications. The factory's release names one, but
// brings none: whoever sets the machine up installs it.
func (l loader) wanted() string {
	if l.variant != hasApps.variant {
		return ""
	}
	return `[apps]
path = "/data/apps"
[[app]]
name = "notes"
publisher = "acme"
bundled = true
`
}

// newAppsCore returns the cloud kernel with what containers need of it, and builds their
// programs.
func (k *kit) newAppsCore() (c core, err error) {
	if _, err := exec.LookPath("crun"); err != nil {
		return c, fmt.Errorf("%w: run .ci/install e2e: %w", errLacks, err)
	}
	if err := k.build(k.bin, "amd64", "./cmd/twinkeel-shim", "./examples/apps/notes"); err != nil {
		return c, err
	}
	return k.newCore(k.cache, k.bin, vm.ContainerModules...)
}

// addRuntime puts what runs containers into a root: the shim, and this host's crun with its
// libraries.
func (k *kit) addRuntime(tree string) error {
	crun, err := exec.LookPath("crun")
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(k.ctx, "ldd", crun).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", crun, err)
	}
	files := map[string]string{"usr/bin/crun": crun, "usr/lib/twinkeel/twinkeel-shim": filepath.Join(k.bin, "twinkeel-shim")}
	for _, word := range strings.Fields(string(out)) {
		if filepath.IsAbs(word) {
			files[word[1:]] = word
		}
	}
	for to, from := range files {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		path := filepath.Join(tree, to)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o755)); err != nil {
			return err
		}
	}
	return nil
}

// publishApps publishes all versions of the application, for releases to name them.
func (s *site) publishApps() error {
	if err := s.command("app", "publisher", s.dir, "acme", "--like", "stable"); err != nil {
		return err
	}
	for _, version := range []string{"1.0", "2.0", "3.0"} {
		draft, err := s.k.buildApp(version)
		if err != nil {
			return err
		}
		if err := s.command("app", "publish", s.dir, draft, "--blocks-from", "-1"); err != nil {
			return err
		}
	}
	return nil
}

// appManifest is the app.toml of a version. It has no network: nothing but the application
// itself is tried here. Its times are those of an emulator on a busy machine.
const appManifest = `publisher = "acme"
name = "notes"
version = "%s"
[limits]
memory = "64M"
pids = 64
[network]
mode = "none"
[[data]]
name = "db"
path = "/data"
class = "versioned"
quota = "1M"
[health]
http = ":8080/health"
start = "1m"
interval = "1s"
timeout = "10s"
failures = 5
probation = "2s"
[update]
dataFormat = %s
dataReads = %[2]s
`

// buildApp makes a version of the application of a container image, and returns its draft.
func (k *kit) buildApp(version string) (string, error) {
	dir := filepath.Join(k.work, "app-"+version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	program, err := os.ReadFile(filepath.Join(k.bin, "notes"))
	if err != nil {
		return "", err
	}
	image, err := containerImage(program, appKinds[version])
	if err != nil {
		return "", err
	}
	format, _, _ := strings.Cut(version, ".")
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "image.tar"), image, 0o644),
		os.WriteFile(filepath.Join(dir, "app.toml"), fmt.Appendf(nil, appManifest, version, format), 0o644),
	); err != nil {
		return "", err
	}
	err = (&site{k: k}).command("app", "build", "--from", filepath.Join(dir, "image.tar"), "--manifest", filepath.Join(dir, "app.toml"), "-o", dir)
	return filepath.Join(dir, "notes-"+version+".json"), err
}

// containerImage is what docker save writes of an image of one layer.
func containerImage(program []byte, kind string) ([]byte, error) {
	layer, err := tarOf([]tarFile{
		{"bin/notes", program}, {"etc/notes", []byte(kind + "\n")}, {"etc/passwd", []byte("notes:x:1000:1000::/:/bin/notes\n")},
	})
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/bin/notes"}, "User": "notes", "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + release.DigestOf(layer).String()}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{"notes:" + kind}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	return tarOf([]tarFile{{"manifest.json", manifest}, {"config.json", config}, {"layer.tar", layer}})
}

// tarFile is a file of a tar.
type tarFile struct {
	name    string
	content []byte
}

func tarOf(files []tarFile) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(f.content)), ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
