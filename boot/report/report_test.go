package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

var root = release.DigestOf([]byte("root"))

func write(t *testing.T, path, content string, age time.Duration) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// lines is what Last shows.
func lines(p Places, slot partitions.Slot, root release.Digest, after time.Time) []string {
	shown, _ := p.Last(slot, root, after)
	return shown
}

func TestWhatIsKeptOfASlotIsFoundByItsRoot(t *testing.T) {
	p := Places{Kept: t.TempDir()}
	boot := Boot{Slot: partitions.B, Root: root, Version: "2.0 \n x", Uptime: 91 * time.Second}
	if err := Save(p.Kept, boot, []byte("[    1.000000] hello\n[   90.000000] twinkeel-init: no commit\n")); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(lines(p, partitions.B, root, time.Time{}), "|")
	if want := "kernel: slot b, 1m31s after its kernel began|[    1.000000] hello|[   90.000000] twinkeel-init: no commit"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, got := range map[string][]string{
		"another root":  lines(p, partitions.B, release.DigestOf(nil), time.Time{}),
		"another slot":  lines(p, partitions.A, root, time.Time{}),
		"another place": lines(Places{Kept: t.TempDir()}, partitions.B, root, time.Time{}),
	} {
		if got != nil {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestWhatAKernelSavedInItsPanicComesFirst(t *testing.T) {
	dir := t.TempDir()
	p := Places{Kept: filepath.Join(dir, "kept"), Pstore: []string{filepath.Join(dir, "systemd"), filepath.Join(dir, "pstore")}}
	ours := mark(partitions.B, root)
	write(t, filepath.Join(p.Pstore[1], "dmesg-efi-170000000001001"), "Panic#1 Part1\nlast", time.Minute)
	write(t, filepath.Join(p.Pstore[1], "dmesg-efi-170000000002001"), "Panic#1 Part2\n"+ours+"\nfirst", time.Minute)
	write(t, filepath.Join(p.Pstore[1], "dmesg-efi-160000000001001"), ours+"\nlong ago", time.Hour)
	write(t, filepath.Join(p.Pstore[1], "pmsg-ramoops-0"), "of programs", time.Minute)
	after := time.Now().Add(-10 * time.Minute)
	got := strings.Join(lines(p, partitions.B, root, after), "|")
	if want := "kernel: slot b, saved by the kernel in its panic|Panic#1 Part2|" + ours + "|first|Panic#1 Part1|last"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// systemd puts the parts together, and takes them away.
	write(t, filepath.Join(p.Pstore[0], "17000000", "001", "dmesg.txt"), ours+"\nwhole", 30*time.Second)
	write(t, filepath.Join(p.Pstore[0], "17000000", "001", "dmesg-efi-170000000001001"), "part", time.Minute)
	got = strings.Join(lines(p, partitions.B, root, after), "|")
	if want := "kernel: slot b, saved by the kernel in its panic|" + ours + "|whole"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := lines(p, partitions.B, root, time.Now()); got != nil {
		t.Errorf("what is older than the trial was taken: %q", got)
	}
}

func TestWhatIsShownIsBoundedText(t *testing.T) {
	for name, log := range map[string]string{
		"long lines":   strings.Repeat(strings.Repeat("x", 5000)+"\n", 100),
		"many lines":   strings.Repeat("a line\n", 100000),
		"no line":      strings.Repeat("y", 1<<20),
		"no text":      strings.Repeat("\xff\xfe\x00", 1<<16),
		"only newline": strings.Repeat("\n", 1<<16),
	} {
		p := Places{Kept: t.TempDir()}
		if err := Save(p.Kept, Boot{Slot: partitions.A, Root: root}, []byte(log)); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(filepath.Join(p.Kept, logFile(partitions.A))); err != nil || st.Size() > MaxSaved+maxHead {
			t.Errorf("%s: kept %d bytes, %v", name, st.Size(), err)
		}
		size := 0
		for _, l := range lines(p, partitions.A, root, time.Time{}) {
			if size += len(l); !utf8.ValidString(l) || strings.Contains(l, "\n") {
				t.Errorf("%s: shows %q", name, l)
			}
		}
		if size > MaxShown+100 {
			t.Errorf("%s: shows %d bytes, want at most %d", name, size, MaxShown)
		}
	}
}

func TestWhatLiesInThePlaceOfAFileIsNotWaitedFor(t *testing.T) {
	p := Places{Kept: t.TempDir()}
	at := filepath.Join(p.Kept, logFile(partitions.A))
	if err := os.Symlink("/dev/zero", at); err != nil {
		t.Fatal(err)
	}
	if got := lines(p, partitions.A, root, time.Time{}); got != nil {
		t.Errorf("a link: got %q", got)
	}
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := lines(p, partitions.A, root, time.Time{}); got != nil {
		t.Errorf("a directory: got %q", got)
	}
}

func TestRecordsReadAsDmesgShowsThem(t *testing.T) {
	for record, want := range map[string]string{
		"3,120,91000001,-;twinkeel-init: no commit\n SUBSYSTEM=x\n": "[   91.000001] twinkeel-init: no commit\n",
		"6,1,0,-;Linux version": "[    0.000000] Linux version\n",
		"6,1,99,c,caller=T1;x":  "[    0.000099] x\n",
		"":                      "", "6,1;x": "", "6,1,-5,-;x": "", "6,1,zz,-;x": "", "no record": "",
	} {
		if got := string(appendRecord(nil, []byte(record))); got != want {
			t.Errorf("%q: got %q, want %q", record, got, want)
		}
	}
}

func TestTheLogOfThisMachineIsRead(t *testing.T) {
	log, err := KernelLog("/dev/kmsg")
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		needs.That(t, false, "the kernel's log, as root: "+err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(log) > MaxSaved {
		t.Errorf("got %d bytes, want at most %d", len(log), MaxSaved)
	}
}

func TestDamageIsOneLine(t *testing.T) {
	at := filepath.Join(t.TempDir(), "run", "damaged")
	if got := Damage(at); got != "" {
		t.Errorf("without a file: got %q", got)
	}
	if err := SaveDamage(at, "slot a\x1b\xff: bad\nmore"); err != nil {
		t.Fatal(err)
	}
	if got, want := Damage(at), "slot a\x1b\uFFFD: bad"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fmt.Sprintf("%s slot=b root=%s uptime=1m31s version=2.0\nlog\n", magic, root)))
	f.Add([]byte(fmt.Sprintf("%s slot=b root=%s uptime=0s version=2.0 panic=2026-11-21T21:00:00Z\nlog\n", magic, root)))
	f.Add([]byte(magic + " slot=c\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		boot, log, err := parse(b)
		if err != nil {
			return
		}
		dir := t.TempDir()
		if err := Save(dir, boot, log); err != nil {
			t.Fatal(err)
		}
		again, log2, err := kept(dir, boot.name())
		if err != nil || again.Root != boot.Root || string(log2) != string(log) {
			t.Errorf("saved and read: got %+v, %d bytes, %v; want %+v, %d bytes", again, len(log2), err, boot, len(log))
		}
	})
}
