package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// suite is the Debian that the packages are installed in.
const suite = "bookworm"

// missing skips a test that cannot run here, and fails where everything has to.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// digests builds the packages for the given architectures and returns what they are.
func digests(t *testing.T, source, out string, archs ...string) map[string]string {
	t.Helper()
	if err := build(t.Context(), source, out, archs); err != nil {
		t.Fatal(err)
	}
	list, err := filepath.Glob(filepath.Join(out, "*.deb"))
	if err != nil || len(list) != len(packages)*len(archs) {
		t.Fatalf("packages: got %v, %v, want %d of them", list, err, len(packages)*len(archs))
	}
	sums := map[string]string{}
	for _, path := range list {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sums[filepath.Base(path)] = fmt.Sprintf("%x", sha256.Sum256(b))
	}
	return sums
}

func TestTheSameSourceGivesTheSamePackages(t *testing.T) {
	// A copy, in another place and with other times.
	again := filepath.Join(t.TempDir(), "another/place")
	tracked, err := exec.Command("git", "-C", "..", "ls-files", "-co", "--exclude-standard", "-z").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(tracked), "\x00"), "\x00") {
		if info, err := os.Lstat(filepath.Join("..", name)); err != nil || !info.Mode().IsRegular() {
			continue // a link of an example, or removed and not committed yet
		}
		b, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := write(filepath.Join(again, name), b); err != nil {
			t.Fatal(err)
		}
	}
	first, second := digests(t, "..", t.TempDir(), "amd64"), digests(t, again, t.TempDir(), "amd64")
	for name, sum := range first {
		if second[name] != sum {
			t.Errorf("%s: got %s, then %s", name, sum, second[name])
		}
	}
}

func TestPackagesAreBuiltForAForeignArchitecture(t *testing.T) {
	out := t.TempDir()
	digests(t, "..", out, "arm64")
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		missing(t, "dpkg-deb is not here: the packages are not looked into")
	}
	tar, err := exec.Command("sh", "-c", "dpkg-deb --fsys-tarfile "+out+"/twinkeeld_*_arm64.deb | tar -xO ./usr/bin/twinkeeld").Output()
	if err != nil || len(tar) < 20 || !bytes.HasPrefix(tar, []byte("\x7fELF\x02")) || tar[18] != 0xb7 {
		t.Errorf("twinkeeld: got %x…, %v, want a program for AArch64", tar[:min(len(tar), 20)], err)
	}
}

// cleanRoot unpacks a Debian in which nothing of ours ever was. It is fetched once.
func cleanRoot(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "not root: packages are not installed in a clean Debian")
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		missing(t, "mmdebstrap is not installed: packages are not installed in a clean Debian")
	}
	kept := "../.cache/deb/" + suite + "-initramfs.tar"
	if _, err := os.Stat(kept); err != nil {
		mirror, err := exec.Command("../.ci/mirror", suite).Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, "mmdebstrap", "--quiet", "--format=tar", "--variant=minbase", "--include=systemd,initramfs-tools-core", "--aptopt=Apt::Install-Recommends \"false\"",
			"--aptopt=Acquire::Retries \"5\"", suite, kept+".partial", "deb "+strings.TrimSpace(string(mirror))+" "+suite+" main")
		if err := os.Rename(kept+".partial", kept); err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	run(t, "tar", "-C", root, "-x", "--numeric-owner", "--xattrs", "-f", kept, "--exclude=./dev/*")
	return root
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// inside runs a script of testdata in the root, with a /proc of its own.
func inside(t *testing.T, root, script string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", script))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--pid", "--fork", "--net", "sh", "-euc",
		`mount -t proc proc "$1/proc"; mount -t tmpfs tmpfs "$1/run"; for d in null urandom zero full tty; do touch "$1/dev/$d"; mount --bind "/dev/$d" "$1/dev/$d"; done
		exec chroot "$1" sh -eux -c "$2"`, "sh", root, string(b))
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// modules puts a kernel's modules into the root, as its package would.
func modules(t *testing.T, root string) {
	t.Helper()
	found, err := filepath.Glob("../.cache/vm/lib/modules/*")
	if err != nil || len(found) == 0 {
		missing(t, "no kernel was unpacked by .ci/install e2e: no initramfs is made")
	}
	to := filepath.Join(root, "tmp/modules")
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "cp", "-a", found[0], to)
	// What the kernel can unpack is asked of its configuration.
	run(t, "cp", "../.cache/vm/boot/config-"+filepath.Base(found[0]), filepath.Join(root, "tmp"))
}

// volatile are places that any package manager leaves traces in.
var volatile = []string{"proc", "run", "dev", "tmp", "debs", "var/lib/dpkg", "var/lib/apt", "var/cache", "var/log", "etc/ld.so.cache",
	"var/lib/systemd/deb-systemd-helper-enabled", "var/lib/systemd/deb-systemd-helper-masked"}

// snapshot lists what is in root, each file with its digest.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		for _, v := range volatile {
			if rel == v {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		what := d.Type().String()
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what = fmt.Sprintf("%x", sha256.Sum256(b))
		}
		list[rel] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPackagesInACleanDebian(t *testing.T) {
	root := cleanRoot(t)
	before := snapshot(t, root)
	digests(t, "..", filepath.Join(root, "debs"), "amd64")
	inside(t, root, "install.sh")
	modules(t, root)
	inside(t, root, "initramfs.sh")
	inside(t, root, "purge.sh")
	after := snapshot(t, root)
	// What stays: data, and the accounts that it belongs to.
	stays := map[string]bool{"var/lib/twinkeel": true, "var/lib/twinkeel/history.json": true, "srv/twinkeel": true, "srv/twinkeel/keys": true,
		"etc/twinkeel": true, "etc/twinkeel/twinkeel.toml": true}
	for _, f := range []string{"passwd", "shadow", "group", "gshadow"} {
		stays["etc/"+f], stays["etc/"+f+"-"] = true, true
	}
	stays["etc/.pwd.lock"] = true
	for path, what := range after {
		if before[path] != what && !stays[path] {
			t.Errorf("left behind after the purge: %s", path)
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			t.Errorf("taken away by the purge: %s", path)
		}
	}
	for path := range stays {
		if _, ok := after[path]; !ok && strings.Contains(path, "twinkeel") {
			t.Errorf("data that the purge took away: %s", path)
		}
	}
}

func TestAChangelogWithoutVersionOrDateIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty":        "",
		"other":        "other (1.0.0) unstable; urgency=medium\n\n -- A <a@b>  Sat, 21 Nov 2026 12:00:00 +0000\n",
		"no version":   "twinkeel (latest) unstable; urgency=medium\n\n -- A <a@b>  Sat, 21 Nov 2026 12:00:00 +0000\n",
		"no date":      "twinkeel (1.0.0) unstable; urgency=medium\n",
		"another date": "twinkeel (1.0.0) unstable; urgency=medium\n\n -- A <a@b>  2026-11-21\n",
	} {
		path := filepath.Join(t.TempDir(), "changelog")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := readChangelog(path); err == nil {
			t.Errorf("%s: got %+v", name, e)
		}
	}
}
