package disks

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
)

// The page's commands for a fleet are run as they stand there. Old and new host are
// directories; what takes a machine (packages, units, the agent, the emulator) is written
// down, and only its words are checked.
func TestAHostIsAdoptedByTheCommandsOfThePage(t *testing.T) {
	requireTools(t, "grub-mkimage", "mcopy", "debugfs", "tar", "bash")
	a := newAdoption(t)
	blocks, text := page(t)
	a.write(map[string]string{
		"pass": "only for tests\n", "root.img": strings.Repeat("root", 1<<16), "boot.img": strings.Repeat("boot", 1<<15), "next.img": strings.Repeat("next", 1<<16),
		"old/etc/ssh/ssh_host_ed25519_key": "secret", "old/etc/ssh/ssh_host_ed25519_key.pub": "public", "old/etc/ssh/moduli": "not asked for",
		"old/etc/machine-id": "0123456789abcdef0123456789abcdef\n", "old/etc/hostname": "host-1\n", "old/etc/systemd/network/10-wired.network": "[Match]\n",
		apps + "3/html/index": "what the application wrote", shared + "cache/thumb": "too",
		strings.Replace(apps, "old/var/lib/twinkeel-apps", "new/data/apps", 1) + "1/html/stale": "of the new host's first start",
		"new/data/apps/data/web/shared/cache/stale":                                             "too",
	})
	a.run(`twinkeel-server init site --profile solo
for channel in stable edge; do
	twinkeel-server publish site --channel $channel --version 1.0 --compatible pc --image root=root.img --image boot=boot.img
done
twinkeel-server publish site --channel edge --version 1.1 --compatible pc --image root=next.img --image boot=boot.img
cp site/repository/metadata/1.root.json .
install -D -m 644 "$EXAMPLES/apps.conf" old/usr/share/doc/twinkeeld/examples/apps.conf`)

	a.run(strings.NewReplacer(" /etc/", " old/etc/", ">/etc/", ">old/etc/", " /usr/", " old/usr/").Replace(blocks[0]))
	a.appliesTo("old/etc/twinkeel")
	a.run(`{ echo 'compatible = "pc"'; echo 'apps.path = "/data/apps"'; cat old/etc/twinkeel/twinkeel.toml
for s in a b; do printf '[slots.%s]\nroot = "PARTLABEL=root-%s"\nboot = "PARTLABEL=boot-%s"\n' $s $s $s; done; } >host.toml`)
	a.run(blocks[1])
	a.carries("host.img", map[string]string{
		"ssh/ssh_host_ed25519_key": "0100600 secret", "ssh/ssh_host_ed25519_key.pub": "0100644 public", "machine-id": "0100644 0123456789abcdef0123456789abcdef\n",
		"hostname": "0100644 host-1\n", "systemd/network/10-wired.network": "0100644 [Match]\n",
	})

	a.run(strings.NewReplacer("/var/lib/", "old/var/lib/", "GENERATION", "3").Replace(blocks[2]))
	a.run(strings.NewReplacer("/data/apps", "new/data/apps", "GENERATION", "1").Replace(blocks[3]))
	a.run(`diff -r ` + apps + `3 new/data/apps/data/web/gen/1
diff -r ` + shared + ` new/data/apps/data/web/shared`)

	for _, inline := range regexp.MustCompile("(?s)`twinkeel-server (promote|rollout) [^`]*`").FindAllString(text, -1) {
		a.run(strings.Trim(inline, "`"))
	}
	if out := a.run("twinkeel-server status site --json"); !strings.Contains(out, `"1.1"`) {
		t.Errorf("after promotion: got %s", out)
	}
	a.understood()
}

// What the old host's application wrote: by generation, and in volumes of class shared.
const (
	apps   = "old/var/lib/twinkeel-apps/data/web/gen/"
	shared = "old/var/lib/twinkeel-apps/data/web/shared/"
)

// page returns what docs/OPERATIONS.md says on adopting a fleet, and the commands of it, block
// by block.
func page(t *testing.T) (blocks []string, text string) {
	t.Helper()
	b, err := os.ReadFile("../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = strings.Cut(string(b), "\n### Adopting an existing fleet\n")
	text, _, _ = strings.Cut(text, "\n### ")
	for i, part := range strings.Split(text, "   ```\n") {
		if i%2 == 1 {
			blocks = append(blocks, strings.ReplaceAll("\n"+part, "\n   ", "\n"))
		}
	}
	if len(blocks) != 4 {
		t.Fatalf("docs/OPERATIONS.md, adopting a fleet: got %d blocks of commands, want 4: %q", len(blocks), blocks)
	}
	return blocks, text
}

// adoption is a host that is moved.
type adoption struct {
	*testing.T
	bin, dir, examples string
}

func newAdoption(t *testing.T) *adoption {
	t.Helper()
	examples, err := filepath.Abs("../examples/systemd")
	if err != nil {
		t.Fatal(err)
	}
	a := &adoption{t, t.TempDir(), t.TempDir(), examples}
	build := exec.Command("go", "build", "-o", a.bin+"/", "github.com/twinkeel/twinkeel/cmd/twinkeel", "github.com/twinkeel/twinkeel/cmd/twinkeel-server")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return a
}

// write makes files below the directory; keys are for nobody else.
func (a *adoption) write(files map[string]string) {
	a.Helper()
	for name, content := range files {
		path, mode := filepath.Join(a.dir, name), fs.FileMode(0o644)
		if strings.HasSuffix(name, "_key") || name == "pass" {
			mode = 0o600
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode)); err != nil {
			a.Fatal(err)
		}
	}
}

// standIns take the place of what needs a machine. scp copies from the old host's directory.
const standIns = `
twinkeel() { echo "twinkeel $*" >>calls; }
apt() { echo "apt $*" >>calls; }
systemctl() { echo "systemctl $*" >>calls; }
qemu-system-x86_64() { echo "qemu $*" >>calls; }
scp() { shift; local to=${!#}; while [ $# -gt 1 ]; do cp -p old${1#root@HOST:} "$to"; shift; done; }
`

// run runs commands in the directory and returns what they print.
func (a *adoption) run(commands string) string {
	a.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", standIns+commands)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "PATH="+a.bin+":"+os.Getenv("PATH"), "TWINKEEL_PASSPHRASE_FILE="+filepath.Join(a.dir, "pass"), "EXAMPLES="+a.examples)
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.Fatalf("%s\n%v: %s", commands, err, out)
	}
	return string(out)
}

// appliesTo has the real command begin on a host with the configuration, with its state and
// applications below the directory.
func (a *adoption) appliesTo(config string) {
	a.Helper()
	a.write(map[string]string{config + "/conf.d/test.toml": "root = \"" + filepath.Join(a.dir, config, "root.json") + "\"\nstate = \"" + filepath.Join(a.dir, "state") +
		"\"\nsocket = \"" + filepath.Join(a.dir, "s") + "\"\napps.path = \"" + filepath.Join(a.dir, "apps") + "\"\n"})
	if out := a.run("mkdir state; command twinkeel --config " + config + "/twinkeel.toml status"); !strings.Contains(out, "stable") {
		a.Errorf("status of a host that keeps its system: got %s", out)
	}
}

// carries checks files of the machine's identity on the disk's data partition: modes, owner,
// content.
func (a *adoption) carries(disk string, files map[string]string) {
	a.Helper()
	path := filepath.Join(a.dir, disk)
	f, err := os.Open(path)
	if err != nil {
		a.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		a.Fatal(err)
	}
	if st.Size() != 32<<30 {
		a.Errorf("%s: got %d bytes, want 32 GiB", disk, st.Size())
	}
	table, err := partitions.ReadGPT(f, st.Size(), sector)
	if err != nil {
		a.Fatal(err)
	}
	data := table[len(table)-1]
	image := path + "?offset=" + strconv.FormatInt(data.Start, 10)
	inside := func(what string) string {
		out, err := exec.Command("debugfs", "-R", what, image).Output()
		if err != nil {
			a.Fatalf("debugfs %s: %v", what, err)
		}
		return string(out)
	}
	for name, want := range files {
		mode, content, _ := strings.Cut(want, " ")
		at := "/twinkeel/identity/" + name
		if got := inside("cat " + at); got != content {
			a.Errorf("%s: got %q, want %q", at, got, content)
		}
		if got := inside("stat " + at); !regexp.MustCompile(`Mode: +`+mode[len(mode)-4:]+`\b`).MatchString(got) || !regexp.MustCompile(`User: +0 +Group: +0\b`).MatchString(got) {
			a.Errorf("%s: got %s, want mode %s and root's", at, got, mode)
		}
	}
	if out := inside("ls /twinkeel/identity/ssh"); strings.Contains(out, "moduli") {
		a.Errorf("identity: got %s, want the host's keys alone", out)
	}
	if out := inside("cat /twinkeel/identity/twinkeel/twinkeel.toml"); !strings.Contains(out, `name = "web"`) || !strings.Contains(out, "PARTLABEL=root-b") {
		a.Errorf("configuration on the disk: got %s", out)
	}
}

// understood checks that every command that was given to the agent is one.
func (a *adoption) understood() {
	a.Helper()
	calls, err := os.ReadFile(filepath.Join(a.dir, "calls"))
	if err != nil {
		a.Fatal(err)
	}
	seen := 0
	for call := range strings.Lines(string(calls)) {
		words := strings.Fields(call)
		if words[0] != "twinkeel" {
			continue
		}
		seen++
		name := words[1]
		if name == "app" {
			name = strings.Join(words[1:3], " ")
			if words[2] == "data" {
				name = strings.Join(words[1:4], " ")
			}
		}
		if out := a.run("command " + strings.TrimSpace(call) + " --help"); !strings.Contains(out, "twinkeel "+name) {
			a.Errorf("%s: got %s", call, out)
		}
	}
	if seen < 8 {
		a.Errorf("the agent was told %d times: %s", seen, calls)
	}
}
