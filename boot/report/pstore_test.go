package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

func mark(s partitions.Slot, root release.Digest) string {
	return "[    1.000000] twinkeel-init: " + Mark(Boot{Slot: s, Root: root, Version: "2.0"})
}

func TestAPanicIsTakenOutOfPstoreAndShownForItsReleaseOnly(t *testing.T) {
	pstore, dir := t.TempDir(), t.TempDir()
	began := time.Now().Add(-time.Hour)
	write(t, filepath.Join(pstore, "dmesg-ramoops-0"), "Oops#1 Part1\n"+mark(partitions.B, root)+"\nfirst an oops\n", 2*time.Minute)
	write(t, filepath.Join(pstore, "dmesg-ramoops-1"), "Panic#2 Part1\n"+mark(partitions.B, root)+"\nthen the panic\n", time.Minute)
	boots, err := Take(pstore, dir)
	if err != nil || len(boots) != 1 || boots[0].Slot != partitions.B || boots[0].Root != root || boots[0].Version != "2.0" {
		t.Fatalf("got %+v, %v", boots, err)
	}
	if left, err := os.ReadDir(pstore); err != nil || len(left) != 0 {
		t.Errorf("pstore still holds %v, %v", left, err)
	}
	p := Places{Kept: dir, Pstore: []string{pstore}}
	got := strings.Join(lines(p, partitions.B, root, began), "|")
	for _, want := range []string{"kernel: slot b, saved by the kernel in its panic|", "|first an oops|", "|then the panic"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
	for name, got := range map[string][]string{
		"another root":  lines(p, partitions.B, release.DigestOf(nil), began),
		"another slot":  lines(p, partitions.A, root, began),
		"a later trial": lines(p, partitions.B, root, time.Now()),
	} {
		if got != nil {
			t.Errorf("%s: got %q", name, got)
		}
	}
	// What the guard keeps of a later boot does not take its place.
	if err := Save(dir, Boot{Slot: partitions.B, Root: root}, []byte("kept\n")); err != nil {
		t.Fatal(err)
	}
	if again := strings.Join(lines(p, partitions.B, root, began), "|"); again != got {
		t.Errorf("beside a kept log: got %q, want %q", again, got)
	}
}

// What is taken for evidence is a panic of this slot, with this root, not from before the
// trial, and whole enough to say so.
func TestOnlyAPanicOfTheTrialIsEvidence(t *testing.T) {
	began, ours := time.Now().Add(-10*time.Minute).Truncate(time.Second), mark(partitions.B, root)+"\n"
	other := release.DigestOf([]byte("other"))
	for name, c := range map[string]struct {
		log  string
		age  time.Duration
		want bool
	}{
		"by its head":                  {"Panic#1 Part1\n" + ours + "end of the log", time.Minute, true},
		"by the panic's own line":      {ours + "[    2.000000] Kernel panic - not syncing: Attempted to kill init!\n", time.Minute, true},
		"in the second it was wanted":  {"Panic#1 Part1\n" + ours, time.Since(began), true},
		"before the trial":             {"Panic#1 Part1\n" + ours, time.Hour, false},
		"of the other slot":            {"Panic#1 Part1\n" + mark(partitions.A, root) + "\n", time.Minute, false},
		"of another release":           {"Panic#1 Part1\n" + mark(partitions.B, other) + "\n", time.Minute, false},
		"an oops that was lived on":    {"Oops#1 Part1\n" + ours + "BUG: unable to handle page fault\n", time.Minute, false},
		"torn before the mark":         {"Panic#1 Part1\n" + ours[20:len(ours)-40], time.Minute, false},
		"garbled where it says panic":  {"Pa\xffic#1 Part1\n" + ours + "Kernel p\x00nic - not syncing\n", time.Minute, false},
		"a mark in the midst of panic": {ours + "Panic#1 Part1 of nothing\n", time.Minute, false},
		"empty":                        {"", time.Minute, false},
	} {
		pstore, dir := t.TempDir(), t.TempDir()
		write(t, filepath.Join(pstore, "dmesg-ramoops-0"), c.log, c.age)
		p := Places{Kept: dir, Pstore: []string{pstore}}
		for _, when := range []string{"in pstore", "taken"} {
			_, at := p.Last(partitions.B, root, began)
			if got := !at.IsZero(); got != c.want || at.Nanosecond() != 0 {
				t.Errorf("%s, %s: got a panic at %v, want one: %t", name, when, at, c.want)
			}
			if _, err := Take(pstore, dir); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A kept file that a crash or a bad medium spoilt is no evidence.
func TestASpoiltFileOfAPanicIsNoEvidence(t *testing.T) {
	dir, at := t.TempDir(), time.Now().Truncate(time.Second)
	if err := Save(dir, Boot{Slot: partitions.B, Root: root, Panic: at}, []byte("Panic#1 Part1\nlog\n")); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, panicFile(partitions.B))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p := Places{Kept: dir}
	if _, got := p.Last(partitions.B, root, at); !got.Equal(at) {
		t.Fatalf("whole: got %v, want %v", got, at)
	}
	head := strings.IndexByte(string(whole), '\n')
	for n := range head + 1 {
		write(t, name, string(whole[:n]), 0)
		if _, got := p.Last(partitions.B, root, at); !got.IsZero() {
			t.Errorf("%d bytes: got a panic at %v", n, got)
		}
	}
	write(t, name, strings.Replace(string(whole), " panic=", " pan1c=", 1), 0)
	if _, got := p.Last(partitions.B, root, at); !got.IsZero() {
		t.Errorf("without its time: got %v", got)
	}
}

func TestPanicsOfBothSlotsAreToldApart(t *testing.T) {
	pstore, dir := t.TempDir(), t.TempDir()
	other := release.DigestOf([]byte("other"))
	// In parts, of which only one says whose log it is, as firmware keeps them; two boots that
	// both count their dumps from 1.
	write(t, filepath.Join(pstore, "dmesg-efi_pstore-170000000001001"), "Panic#1 Part1\nend of b\n", 3*time.Minute)
	write(t, filepath.Join(pstore, "dmesg-efi_pstore-170000000002001"), "Panic#1 Part2\n"+mark(partitions.B, root)+"\n", 3*time.Minute)
	write(t, filepath.Join(pstore, "dmesg-efi_pstore-170000100001001"), "Panic#1 Part1\nend of a\n", time.Minute)
	write(t, filepath.Join(pstore, "dmesg-efi_pstore-170000100002001"), "Panic#1 Part2\nKernel command line: x twinkeel.slot=a twinkeel.roothash="+other.String()+" y\n", time.Minute)
	p := Places{Kept: dir, Pstore: []string{pstore}}
	for _, when := range []string{"in pstore", "taken"} {
		a, b := strings.Join(lines(p, partitions.A, other, time.Time{}), "|"), strings.Join(lines(p, partitions.B, root, time.Time{}), "|")
		if !strings.Contains(a, "end of a") || strings.Contains(a, "end of b") || !strings.Contains(b, "end of b") || strings.Contains(b, "end of a") {
			t.Errorf("%s: got %q and %q", when, a, b)
		}
		if boots, err := Take(pstore, dir); err != nil || when == "in pstore" && len(boots) != 2 {
			t.Fatalf("%s: got %+v, %v", when, boots, err)
		}
	}
}

func TestWhatDoesNotSayWhoseItIsStaysInPstore(t *testing.T) {
	pstore, dir := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		"dmesg-ramoops-0":   "Panic#1 Part1\nno mark\n",
		"dmesg-ramoops-1":   "Panic#1 Part1\ntwinkeel.slot=b twinkeel.roothash=12\n",
		"dmesg-ramoops-2":   "twinkeel.roothash=" + root.String() + "\n",
		"console-ramoops-0": mark(partitions.B, root),
	} {
		write(t, filepath.Join(pstore, name), content, time.Minute)
	}
	boots, err := Take(pstore, dir)
	left, lerr := os.ReadDir(pstore)
	if err != nil || lerr != nil || len(boots) != 0 || len(left) != 4 {
		t.Errorf("took %+v, left %v; %v, %v", boots, left, err, lerr)
	}
	if got := lines(Places{Kept: dir, Pstore: []string{pstore}}, partitions.B, root, time.Time{}); got != nil {
		t.Errorf("shown for slot b: %q", got)
	}
}

func TestWhatCannotBeKeptStaysInPstore(t *testing.T) {
	pstore := t.TempDir()
	write(t, filepath.Join(pstore, "dmesg-ramoops-0"), mark(partitions.B, root), time.Minute)
	if boots, err := Take(pstore, filepath.Join(t.TempDir(), "missing")); err == nil || len(boots) != 0 {
		t.Errorf("got %+v, %v", boots, err)
	}
	if left, err := os.ReadDir(pstore); err != nil || len(left) != 1 {
		t.Errorf("pstore holds %v, %v", left, err)
	}
}

func TestALogIsMarkedOnlyIfItsEndSaysSo(t *testing.T) {
	line := mark(partitions.A, root) + "\n"
	if !Marked([]byte(line + strings.Repeat("x\n", 1000))) {
		t.Error("a mark near the end is not seen")
	}
	if Marked([]byte(line+strings.Repeat("x\n", 5000))) || Marked(nil) {
		t.Error("a mark is seen that no panic would leave")
	}
}

func FuzzDumps(f *testing.F) {
	f.Add([]byte("Panic#1 Part1\n"+mark(partitions.B, root)), []byte("Panic#1 Part2\n"))
	f.Add([]byte("twinkeel.roothash=\n"), []byte{})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		at := time.Unix(1700000000, 0)
		total := 0
		for _, d := range join([]record{{"a", at, one}, {"b", at, two}}) {
			total += len(d.log)
			if b, ok := bootOf(d.log); ok {
				if again, ok := bootOf([]byte(Mark(b))); !ok || again.Slot != b.Slot || again.Root != b.Root {
					t.Errorf("mark of %+v reads %+v", b, again)
				}
			}
		}
		if total < len(one)+len(two) {
			t.Errorf("of %d bytes %d are left", len(one)+len(two), total)
		}
	})
}
