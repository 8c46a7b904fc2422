package grub

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/bootloadertest"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
)

func layout() Layout {
	return Layout{
		Dir: "(hd0,gpt3)/twinkeel", Boot: [2]string{"(hd0,gpt4)", "(hd0,gpt5)"},
		Kernel: "/vmlinuz", Initrd: "/initrd.img", Cmdline: "quiet console=ttyS0",
	}
}

func TestSnippetIsTheGoldenOneAndGRUBReadsIt(t *testing.T) {
	got, err := Snippet(layout())
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "snippet.golden")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the script is another one now; look at it, and run the test with UPDATE=1:\n%s", got)
	}
	needs.Tools(t, "grub-script-check")
	if out, err := exec.Command("grub-script-check", golden).CombinedOutput(); err != nil {
		t.Errorf("grub-script-check: %v: %s", err, out)
	}
}

func TestSnippetRefusesWhatTheShellCouldTakeForMore(t *testing.T) {
	for name, spoil := range map[string]func(*Layout){
		"quote in directory":     func(l *Layout) { l.Dir = `(hd0)/x"` },
		"space in kernel":        func(l *Layout) { l.Kernel = "/vm linuz" },
		"semicolon in initrd":    func(l *Layout) { l.Initrd = "/i;reboot" },
		"newline in command":     func(l *Layout) { l.Cmdline = "a\nreboot" },
		"quote in command":       func(l *Layout) { l.Cmdline = `a="b` },
		"no boot file system":    func(l *Layout) { l.Boot[1] = "" },
		"one for both":           func(l *Layout) { l.Boot[1] = l.Boot[0] },
		"backslash in directory": func(l *Layout) { l.Dir = `\` },
	} {
		l := layout()
		spoil(&l)
		if got, err := Snippet(l); err == nil {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// grubShell stands in for GRUB around the script: its shell is close enough to bash, and
// grub-editenv is GRUB's own code for environment blocks.
const grubShell = `
load_env() {
  local file="$2" out line word; shift 2
  out=$(grub-editenv "$file" list 2>/dev/null | tr -d '\0') || return 1
  while IFS= read -r line; do
    for word in "$@"; do if [ "${line%%=*}" = "$word" ]; then printf -v "$word" %s "${line#*=}"; fi; done
  done <<<"$out"
}
save_env() {
  local file="$2"; shift 2
  if [ -n "$FROZEN" ]; then return 0; fi
  for word in "$@"; do grub-editenv "$file" set "$word=${!word}" 2>/dev/null; done
}
linux() { [ -e "$1" ] || return 1; shift; kernel="$*"; }
initrd() { [ -e "$1" ]; }
boot() { printf 'BOOT %s\n' "$kernel"; exit 0; }
reboot() { echo NOTHING; exit 0; }
sleep() { :; }
set -f
`

var setCommand = regexp.MustCompile(`\bset (twinkeel_\w+)=`)

// script runs the script over a directory and returns the command line of the kernel
// that it starts, or "".
func script(t *testing.T, dir string, frozen bool) string {
	t.Helper()
	text, err := Snippet(Layout{Dir: dir, Boot: [2]string{dir + "/boot-a", dir + "/boot-b"}, Kernel: "/vmlinuz", Initrd: "/initrd"})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", grubShell+setCommand.ReplaceAllString(text, "$1="))
	if frozen {
		cmd.Env = append(os.Environ(), "FROZEN=1")
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("script: %v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	kernel, ok := strings.CutPrefix(lines[len(lines)-1], "BOOT ")
	if !ok && lines[len(lines)-1] != "NOTHING" {
		t.Fatalf("script: %s", out)
	}
	if !ok {
		return ""
	}
	return kernel
}

// bootFiles puts kernel and initrd for the given slots below dir.
func bootFiles(t *testing.T, dir string, slots ...partitions.Slot) {
	t.Helper()
	for _, slot := range slots {
		boot := filepath.Join(dir, "boot-"+slot.String())
		if err := os.MkdirAll(boot, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"vmlinuz", "initrd"} {
			if err := os.WriteFile(filepath.Join(boot, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestTheScriptDoesWhatTheModelDoes(t *testing.T) {
	needs.Tools(t, "grub-editenv", "bash")
	dir := t.TempDir()
	bootFiles(t, dir, partitions.A, partitions.B)
	n := 0
	same := func(what string, d *bootloadertest.Disk) {
		t.Helper()
		n++
		for name, raw := range d.Raw() {
			if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want := "nothing"
		if slot, err := powerOn(d); err == nil {
			want = slot.String()
		}
		got := script(t, dir, false)
		if want == "nothing" && got != "" || want != "nothing" && !strings.HasPrefix(got, "twinkeel.slot="+want+" ") {
			t.Fatalf("%s: the script starts %q, the model says %s", what, got, want)
		}
		raw, err := os.ReadFile(filepath.Join(dir, fileRecord))
		if err != nil || !bytes.Equal(raw, d.Raw()[fileRecord]) {
			t.Fatalf("%s: the script left another record than the model, %v:\n%q\n%q", what, err, raw, d.Raw()[fileRecord])
		}
	}
	made := func(a, b bootloader.Record) *bootloadertest.Disk {
		d := bootloadertest.NewDisk(backend().Blocks)
		descriptions := map[partitions.Slot]bootloader.Description{partitions.A: description(t, "1.0"), partitions.B: description(t, "1.1")}
		if err := Create(blocks(d), standing(), descriptions); err != nil {
			t.Fatal(err)
		}
		// Not every record is one that Store would write.
		for _, block := range []bootloader.Block{blocks(d).Record, blocks(d).Copy} {
			if err := change(block, nil, variables(bootloader.State{Slots: [2]bootloader.Record{a, b}}, 9), isRecord); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	var records []bootloader.Record
	for priority := range uint8(3) {
		for _, tries := range []uint8{0, 1, 7} {
			records = append(records, bootloader.Record{Priority: priority, Tries: tries})
		}
		records = append(records, bootloader.Record{Priority: priority, Successful: true})
	}
	for i, a := range records {
		for j, b := range records {
			if (i+j)%3 == 0 || a.Priority == b.Priority && a.Priority > 0 {
				same(fmt.Sprintf("%+v %+v", a, b), made(a, b))
			}
		}
	}
	for tries := range uint8(8) {
		same(fmt.Sprintf("%d tries", tries), made(bootloader.Record{Priority: 1, Successful: true}, bootloader.Record{Priority: 2, Tries: tries}))
	}
	trial := func() *bootloadertest.Disk {
		return made(bootloader.Record{Priority: 1, Successful: true}, bootloader.Record{Priority: 2, Tries: 3})
	}
	for what, spoil := range map[string]func(raw map[string][]byte){
		"first copy zero":        func(raw map[string][]byte) { clear(raw[fileRecord]) },
		"first copy torn":        func(raw map[string][]byte) { raw[fileRecord][bytes.Index(raw[fileRecord], []byte(varEnd))+13] = 'f' },
		"first copy without end": func(raw map[string][]byte) { raw[fileRecord][bytes.Index(raw[fileRecord], []byte(varEnd))] = 'x' },
		"odd priority": func(raw map[string][]byte) {
			raw[fileRecord][bytes.Index(raw[fileRecord], []byte("b_priority="))+11] = '9'
		},
		"odd tries": func(raw map[string][]byte) { raw[fileRecord][bytes.Index(raw[fileRecord], []byte("b_tries="))+8] = '8' },
		"odd successful": func(raw map[string][]byte) {
			raw[fileRecord][bytes.Index(raw[fileRecord], []byte("a_successful="))+13] = '2'
		},
		"both copies zero":        func(raw map[string][]byte) { clear(raw[fileRecord]); clear(raw[fileCopy]) },
		"description of b zero":   func(raw map[string][]byte) { clear(raw[fileSlotB]) },
		"description of a for b":  func(raw map[string][]byte) { copy(raw[fileSlotB], raw[fileSlotA]) },
		"both descriptions zero":  func(raw map[string][]byte) { clear(raw[fileSlotB]); clear(raw[fileSlotA]) },
		"second copy zero":        func(raw map[string][]byte) { clear(raw[fileCopy]) },
		"record lost, b is there": func(raw map[string][]byte) { clear(raw[fileRecord]); clear(raw[fileCopy]); clear(raw[fileSlotA]) },
	} {
		d := trial()
		spoil(d.Raw())
		same(what, d)
	}
	t.Logf("%d records", n)
}

func TestTheScriptFallsBackInTheSameBootAndSaysSo(t *testing.T) {
	needs.Tools(t, "grub-editenv", "bash")
	armed, err := standing().Arm(partitions.B, 3)
	if err != nil {
		t.Fatal(err)
	}
	dir, l := inFiles(t, armed)
	bootFiles(t, dir, partitions.A)
	boot, err := running.ParseCmdline(script(t, dir, false))
	if err != nil || boot != (bootloader.Boot{Slot: partitions.A, Firmware: true, Fallback: true}) {
		t.Errorf("got %+v, %v", boot, err)
	}
	if s, err := l.Load(context.Background()); err != nil || s.Slots[partitions.B].Tries != 2 {
		t.Errorf("the script left %+v, %v", s.Slots, err)
	}
}

func TestTheScriptStartsNoTrialThatItCannotCount(t *testing.T) {
	needs.Tools(t, "grub-editenv", "bash")
	armed, err := standing().Arm(partitions.B, 3)
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := inFiles(t, armed)
	bootFiles(t, dir, partitions.A, partitions.B)
	line := script(t, dir, true)
	if boot, err := running.ParseCmdline(line); err != nil || boot != (bootloader.Boot{Slot: partitions.A, Firmware: true}) {
		t.Errorf("got %+v, %v", boot, err)
	}
	line = script(t, dir, false)
	d := description(t, "1.1")
	want := fmt.Sprintf("twinkeel.slot=b twinkeel.version=1.1 twinkeel.roothash=%s twinkeel.salt=abcd twinkeel.hashoffset=486539264 twinkeel.trial=1 twinkeel.fallback=0 panic=1", d.Root)
	if line != want {
		t.Errorf("command line:\n got %s\nwant %s", line, want)
	}
}
