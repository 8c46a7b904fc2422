package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/twinkeel/twinkeel/disks"
	"github.com/twinkeel/twinkeel/internal/machine"
	"github.com/twinkeel/twinkeel/internal/vm"
	"github.com/twinkeel/twinkeel/release"
)

const mib = 1 << 20

// The sizes of the machine's partitions, in MiB.
const (
	bootSize = 22
	rootSize = 40
	dataSize = 64
)

// kit is what all machines are made of.
type kit struct {
	ctx       context.Context
	work, bin string
	cache     string // where .ci/install put the cloud kernel; the full one is beside it
	cloud     core
	cores     map[string]core // what variants start instead
}

// core is a kernel, and the first stage that goes with it.
type core struct {
	path      string // of the kernel
	bin       string // programs for it
	kernel    []byte
	initramfs []byte
}

// newCore reads a kernel that .ci/install put into a directory. Modules are those that it needs
// more of than others.
func (k *kit) newCore(cache, bin string, modules ...string) (c core, err error) {
	tools, err := vm.FindTools(cache)
	if err != nil {
		return c, err
	}
	c.path, c.bin = tools.Kernel, bin
	if c.kernel, err = os.ReadFile(c.path); err != nil {
		return c, err
	}
	c.initramfs, err = tools.FirstStage(filepath.Join(bin, "twinkeel-init"), modules...)
	return c, err
}

// newArmCore does so for arm64, and builds what runs on it.
func (k *kit) newArmCore(cache string) (c core, err error) {
	if _, err := vm.FindArmTools(cache); err != nil {
		return c, fmt.Errorf("%w: machines for arm64: .ci/install e2e-full: %w", errLacks, err)
	}
	bin := filepath.Join(k.bin, "arm64")
	if err := k.build(bin, "arm64", "./cmd/twinkeel", "./cmd/twinkeeld", "./cmd/twinkeel-init", "./internal/e2e/guest"); err != nil {
		return c, err
	}
	return k.newCore(cache, bin)
}

// build builds programs into a directory.
func (k *kit) build(dir, arch string, programs ...string) error {
	build := exec.CommandContext(k.ctx, "go", append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", dir + "/"}, programs...)...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	return nil
}

// core returns what a loader starts. The error holds errLacks if that cannot be had here.
func (k *kit) core(l loader) (c core, err error) {
	c, ok := k.cores[l.variant]
	switch {
	case ok:
	case l.variant == hasWatchdog.variant:
		if c, err = k.newCore(k.cache+"-full", k.bin); err != nil {
			err = fmt.Errorf("%w: Debian's full kernel: .ci/install e2e-full: %w", errLacks, err)
		}
	case l.variant == ownInitramfs.variant:
		c, err = k.distribution(k.cache)
	case l.variant == arm64.variant:
		c, err = k.newArmCore(k.cache + "-arm64")
	case l.variant == hasApps.variant:
		c, err = k.newAppsCore()
	default:
		c = k.cloud
	}
	if err == nil {
		k.cores[l.variant] = c
	}
	return c, err
}

// newKit builds the programs and the initramfs.
func newKit(ctx context.Context, cache, work string) (*kit, error) {
	for _, name := range []string{"mkfs.erofs", "mke2fs", "e2fsck"} {
		if _, err := findTool(name); err != nil {
			return nil, fmt.Errorf("run .ci/install e2e: %w", err)
		}
	}
	k := &kit{ctx: ctx, work: work, bin: filepath.Join(work, "bin"), cache: cache, cores: map[string]core{}}
	if err := k.build(k.bin, "amd64", "./cmd/twinkeel", "./cmd/twinkeeld", "./cmd/twinkeel-server", "./cmd/twinkeel-init", "./internal/e2e/guest"); err != nil {
		return nil, err
	}
	var err error
	if k.cloud, err = k.newCore(cache, k.bin); err != nil {
		return nil, err
	}
	return k, nil
}

// buildNewer builds the agent as a later version of it may be: with a state format that
// the agents before do not read.
func (k *kit) buildNewer() error {
	source, err := filepath.Abs("agent/state.go")
	if err != nil {
		return err
	}
	b, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	newer := bytes.Replace(b, []byte("const StateFormat = 1\n"), []byte("const StateFormat = 2\n"), 1)
	if bytes.Equal(b, newer) {
		return fmt.Errorf("%s: the state format is not the one that is known here", source)
	}
	file, overlay := filepath.Join(k.work, "state.go"), filepath.Join(k.work, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {source: file}})
	if err := errors.Join(err, os.WriteFile(file, newer, 0o644), os.WriteFile(overlay, list, 0o644)); err != nil {
		return err
	}
	build := exec.CommandContext(k.ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-overlay", overlay,
		"-o", filepath.Join(k.bin, "twinkeeld-newer"), "./cmd/twinkeeld")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	return nil
}

// system is one release of the small operating system.
type system struct {
	version   string
	behaviour string // what guest makes of it, or "nokernel"
}

// deadline is until when a release has to be healthy, from the start of its boot. Only the one that
// never is makes a test wait for it; all others get what a boot takes on a machine that
// is very busy with something else.
func (s system) deadline(l loader) string {
	switch {
	case !s.fails():
		return "3m"
	case l.variant == hasApps.variant:
		return "90s" // in which its application has to have started, however busy
	}
	return "30s"
}

// fails reports whether a release is never healthy, and its agent says so.
func (s system) fails() bool { return s.behaviour == "unhealthy" || s.behaviour == "badapp" }

// soak is how long a release has to stay healthy. The one that never is probes as seldom as if that
// were long, every fifth part of it: each round of its probes starts a program.
func (s system) soak() string {
	if s.fails() {
		return "20s"
	}
	return "2s"
}

// configuration of the agent in every release. There is no directive: an agent's first poll
// comes at a random time, and must not begin an update that no case asked for.
const configuration = `server = "http://127.0.0.1:8480"
channel = "stable"
compatible = "%s"
state = "/data/state"
rollout = "directive"
[slots.a]
root = "PARTLABEL=root-a"
boot = "PARTLABEL=boot-a"
[slots.b]
root = "PARTLABEL=root-b"
boot = "PARTLABEL=boot-b"
[boot]
path = "%s"
loader = "%s"
reboot = ["/sbin/init"]
[poll]
interval = "24h"
[health]
deadline = "%s"
soak = "%s"
[[health.probe]]
name = "web"
http = "http://127.0.0.1/healthz"
required = true
`

// failingProbe is what the configuration of the release that is never healthy has beside: a
// probe that prints why it fails.
const failingProbe = `[[health.probe]]
name = "shelf"
command = ["/usr/bin/twinkeel", "stock"]
required = true
`

// rootImage makes the root file system of a release.
func (k *kit) rootImage(s system, l loader, trust []byte) (string, error) {
	image := filepath.Join(k.work, l.id()+"-root-"+s.version+".img")
	tree := filepath.Join(k.work, "tree-"+s.version)
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "data", "boot", "var", "sbin", "usr/bin", "etc/twinkeel"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			return "", err
		}
	}
	files := map[string][]byte{
		"etc/e2e": []byte(s.behaviour + "\n"), "etc/release": []byte(s.version + "\n"),
		"etc/twinkeel/twinkeel.toml": fmt.Appendf(nil, configuration+l.wanted(), l.compatible(), l.path, l.name, s.deadline(l), s.soak()), "etc/twinkeel/root.json": trust,
		"etc/passwd": []byte("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"),
		"etc/group":  []byte("root:x:0:\nnogroup:x:65534:\n"),
	}
	if s.behaviour == "unhealthy" {
		files["etc/twinkeel/twinkeel.toml"] = append(files["etc/twinkeel/twinkeel.toml"], failingProbe...)
	}
	files[idle[1:]] = noise(idleSeed, idleSize)
	if s.version == "2.0" {
		files["etc/ballast"] = noise(0, 2*mib) // what no delta makes small
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(tree, name), content, 0o644); err != nil {
			return "", err
		}
	}
	programs := map[string]string{"guest": "sbin/init", "twinkeel": "usr/bin/twinkeel", "twinkeeld": "usr/bin/twinkeeld"}
	switch s.behaviour {
	case "noagent":
		delete(programs, "twinkeeld")
	case "newformat":
		delete(programs, "twinkeeld")
		programs["twinkeeld-newer"] = "usr/bin/twinkeeld"
		if err := k.buildNewer(); err != nil {
			return "", err
		}
	}
	c, err := k.core(l)
	if err != nil {
		return "", err
	}
	if l.variant == hasApps.variant {
		if err := k.addRuntime(tree); err != nil {
			return "", err
		}
	}
	for name, at := range programs {
		if err := os.Link(filepath.Join(c.bin, name), filepath.Join(tree, at)); err != nil {
			return "", err
		}
	}
	if l.variant == ext4Root.variant {
		err = k.ext4Image(image, tree)
	} else {
		err = k.tool("mkfs.erofs", "-T0", "--all-root", "-U00000000-0000-0000-0000-000000000000", image, tree)
	}
	if err != nil {
		return "", err
	}
	return image, os.RemoveAll(tree)
}

// A file of every release that nothing reads by itself.
const (
	idle     = "/etc/idle"
	idleSize = 64 << 10
	idleSeed = 1
)

// noise returns bytes that nothing else holds, unless of the same seed.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // it never fails
	return b
}

// canaryContent is a file that the factory puts on the data partition and nobody changes.
func canaryContent() []byte { return noise(0, mib) }

// bootImage makes what the loader starts of a release. No two releases have the same.
func (k *kit) bootImage(s system, l loader) (string, error) {
	image := filepath.Join(k.work, l.id()+"-boot-"+s.version+".img")
	if l.name == systemdBoot.name {
		return image, k.ukiImage(image, s.version)
	}
	c, err := k.core(l)
	if err != nil {
		return "", err
	}
	files := map[string][]byte{"initrd.img": c.initramfs, "version.txt": []byte(s.version + "\n")}
	if s.behaviour != "nokernel" {
		files["vmlinuz"] = c.kernel
	}
	return image, vm.MakeFAT(image, k.work, l.bootSize()-1, files)
}

// content is the file with what a slot holds of a release: its boot or its root, and the
// verity tree behind that.
func (k *kit) content(l loader, version, name string) string {
	return filepath.Join(k.work, l.id()+"-"+version+"-"+name+".slot")
}

// withTree makes a file that holds an image as a slot does: its verity tree behind it.
func withTree(path, image string, salt release.Salt) error {
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return err
	}
	_, err := machine.WriteImage(path, image, salt)
	return err
}

// dataTree makes a directory with what is on a new data partition: the machine's identity and
// the manifest that the factory installed.
func (k *kit) dataTree(manifest []byte) (string, error) {
	tree := filepath.Join(k.work, "data")
	if err := os.RemoveAll(tree); err != nil {
		return "", err
	}
	id := filepath.Join(tree, "twinkeel/identity")
	if err := os.MkdirAll(id, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(id, "machine-id"), []byte(machineID+"\n"), 0o644); err != nil {
		return "", err
	}
	for name, content := range map[string][]byte{"manifest.json": manifest, "canary": canaryContent(), "boots": nil} {
		if err := os.WriteFile(filepath.Join(tree, name), content, 0o644); err != nil {
			return "", err
		}
	}
	return tree, nil
}

// dataImage makes the data partition, as `disk create` does.
func (k *kit) dataImage(manifest []byte) (string, error) {
	tree, err := k.dataTree(manifest)
	if err != nil {
		return "", err
	}
	image := filepath.Join(k.work, "data.img")
	if err := os.RemoveAll(image); err != nil {
		return "", err
	}
	f, err := os.Create(image)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Truncate(dataSize<<20), f.Close()); err != nil {
		return "", err
	}
	return image, disks.MakeExt4(k.ctx, image, tree)
}

// machineID is that of every machine here.
const machineID = "0123456789abcdef0123456789abcdef"

// tool runs a tool; its error holds what the tool said.
func (k *kit) tool(name string, args ...string) error {
	path, err := findTool(name)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(k.ctx, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %.2000s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// findTool finds a program that Debian may keep where only root's PATH leads.
func findTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return exec.LookPath("/sbin/" + name)
	}
	return path, nil
}
