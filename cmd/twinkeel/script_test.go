package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/simulated"
	"github.com/twinkeel/twinkeel/release"
)

// world is what all scripts share: the real binaries, a publisher's site with three
// releases, and a plain web server for it.
type world struct {
	bin, site string
	images    map[string][]byte
	server    *httptest.Server
}

// TestScripts runs the scripts of both commands of a host, with the real binaries.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binaries and makes releases")
	}
	w := build(t)
	for _, dir := range []string{"testdata/script", "../twinkeeld/testdata/script"} {
		testscript.Run(t, testscript.Params{
			Dir:   dir,
			Setup: w.setup,
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"poweron": powerOn,
				"await":   await,
			},
			RequireExplicitExec: true,
		})
	}
}

func build(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{bin: filepath.Join(dir, "bin"), site: filepath.Join(dir, "site"), images: map[string][]byte{}}
	tool := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "TWINKEEL_PASSPHRASE_FILE="+filepath.Join(dir, "pass"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	if err := os.Mkdir(w.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	tool("go", "build", "-o", w.bin+"/", "github.com/twinkeel/twinkeel/cmd/twinkeel",
		"github.com/twinkeel/twinkeel/cmd/twinkeeld", "github.com/twinkeel/twinkeel/cmd/twinkeel-server")
	server := filepath.Join(w.bin, "twinkeel-server")
	if err := os.WriteFile(filepath.Join(dir, "pass"), []byte("only for tests\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(server, "init", w.site, "--spare", filepath.Join(dir, "spare"))
	content := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(content)
	for _, v := range []string{"1.0", "2.0", "3.0"} {
		copy(content[300_000:], "release "+v)
		w.images[v] = append([]byte(nil), content...)
		image := filepath.Join(dir, v+".img")
		if err := os.WriteFile(image, content, 0o644); err != nil {
			t.Fatal(err)
		}
		tool(server, "publish", w.site, "--channel", "stable", "--version", v, "--compatible", "test", "--image", "root="+image)
		tool(server, "export", w.site, "--channel", "stable", "-o", filepath.Join(dir, v+".bundle"))
	}
	w.server = httptest.NewServer(http.FileServer(http.Dir(filepath.Join(w.site, "repository"))))
	t.Cleanup(w.server.Close)
	return w
}

// hostConfig is a host of files: two slots, a state directory and a boot record.
const hostConfig = `server = "%[2]s"
channel = "stable"
compatible = "test"
hostID = "host-1"
state = "%[1]s/state"
root = "%[1]s/root.json"
socket = "%[1]s/s"
slots.a.root = "%[1]s/root-a"
slots.b.root = "%[1]s/root-b"
boot.loader = "simulated"
boot.path = "%[1]s/record"
boot.reboot = ["/bin/sh", "-c", "echo reboot >>%[1]s/reboots"]
[health]
deadline = "2s"
soak = "0s"
[[health.probe]]
name = "well"
command = ["/bin/sh", "-c", "! test -e %[1]s/ill || { echo 'it hurts'; exit 1; }"]
timeout = "1s"
`

// setup makes a host that runs release 1.0 from slot a and that nobody has initialised.
func (w *world) setup(e *testscript.Env) error {
	work := e.WorkDir
	e.Setenv("PATH", w.bin+":"+os.Getenv("PATH"))
	e.Setenv("SITE", w.site)
	e.Setenv("BUNDLES", filepath.Dir(w.site))
	root, err := os.ReadFile(filepath.Join(w.site, "repository/metadata/1.root.json"))
	if err != nil {
		return err
	}
	manifests, err := filepath.Glob(filepath.Join(w.site, "repository/targets/os/stable/test/*.1.0.json"))
	if err != nil || len(manifests) != 1 {
		return fmt.Errorf("manifest of 1.0: got %v, %v", manifests, err)
	}
	e.Setenv("MANIFEST", manifests[0])
	slotA, err := slotOf(w.images["1.0"], manifests[0])
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"twinkeel.toml": fmt.Appendf(nil, hostConfig, work, w.server.URL),
		"root.json":     root,
		"root-a":        slotA,
		"root-b":        make([]byte, 2<<20),
		"record":        make([]byte, simulated.Size),
	} {
		if err := os.WriteFile(filepath.Join(work, name), content, 0o644); err != nil {
			return err
		}
	}
	e.Setenv("TWINKEEL", filepath.Join(work, "twinkeel.toml"))
	// Another script's command that is forked just now would inherit the record's lock
	// for a moment.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := simulated.OpenFile(filepath.Join(work, "record"))
	if err != nil {
		return err
	}
	var s bootloader.State
	s.Slots[partitions.A] = bootloader.Record{Priority: 2, Successful: true}
	if err := simulated.Create(f, s, map[partitions.Slot]bootloader.Description{partitions.A: {}}); err != nil {
		return err
	}
	_, err = simulated.New(f).PowerOn(context.Background(), "boot-0", nil)
	return err
}

// slotOf returns a partition of 2 MiB that holds an image and its hash tree.
func slotOf(image []byte, manifest string) ([]byte, error) {
	b, err := os.ReadFile(manifest)
	if err != nil {
		return nil, err
	}
	m, err := release.DecodeManifest(b)
	if err != nil {
		return nil, err
	}
	slot := make([]byte, 2<<20)
	copy(slot, image)
	size := int64(len(image))
	tree := verity.NewBuilder(size, m.Images[0].Salt)
	for i := range verity.Spans(size) {
		start := i * verity.NodeSpan
		leaf, node := verity.HashSpan(m.Images[0].Salt, image[start:start+verity.SpanLength(size, i)])
		copy(slot[verity.LeafOffset(size, i):], leaf[:])
		tree.Add(node)
	}
	_, upper, err := tree.Finish()
	for _, u := range upper {
		copy(slot[u.Offset:], u.Data[:])
	}
	return slot, err
}

// boots numbers the boots of all scripts, which run side by side.
type boots struct {
	sync.Mutex
	n int
}

var bootCount = new(boots)

// powerOn starts the machine anew and checks which slot the loader takes: poweron a|b.
func powerOn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: poweron a|b")
	}
	bootCount.Lock()
	bootCount.n++
	id := "boot-" + strconv.Itoa(bootCount.n)
	bootCount.Unlock()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l, err := simulated.Open(ts.MkAbs("record"))
	ts.Check(err)
	b, err := l.PowerOn(context.Background(), id, nil)
	ts.Check(err)
	if b.Slot.String() != args[0] {
		ts.Fatalf("the loader started slot %s, want %s", b.Slot, args[0])
	}
}

// await waits until a file is there, or with ! until it is gone.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] await FILE")
	}
	for range 2000 {
		if _, err := os.Stat(ts.MkAbs(args[0])); (err == nil) != neg {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("await %s: neg=%v: in vain", args[0], neg)
}
