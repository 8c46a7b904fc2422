package grub

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
)

const vectors = "../../../testdata/grubenv"

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectors, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// all lists the variables as `grub-editenv list` does.
func (e *Env) all() string {
	var b strings.Builder
	for _, l := range e.entries {
		if l.name != "" {
			b.WriteString(l.name + "=" + l.value + "\n")
		}
	}
	return b.String()
}

// Every vector reads as its .list says, which grub-editenv wrote, and unless it is
// damaged it is encoded again as it was.
func TestVectorsReadAsGrubEditenvReadsThem(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectors, "*.env"))
	if err != nil || len(files) < 6 {
		t.Fatalf("vectors: %v, %v", files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		b := vector(t, name)
		e, err := ParseEnv(b)
		want, errList := os.ReadFile(strings.TrimSuffix(file, ".env") + ".list")
		if errList != nil { // grub-editenv refuses it
			if err == nil {
				t.Errorf("%s: was read as %q", name, e.all())
			}
			continue
		}
		if err != nil || e.all() != string(want) {
			t.Errorf("%s: got %q, %v; want %q", name, e.all(), err, want)
			continue
		}
		again, err := e.Encode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !strings.HasPrefix(name, "damaged") && !bytes.Equal(again, b) {
			t.Errorf("%s: is encoded as %q", name, again)
		}
	}
}

func TestWhatIsEncodedGrubEditenvReadsAndChanges(t *testing.T) {
	needs.Tools(t, "grub-editenv")
	e := &Env{}
	vars := []Variable{{"a", "1"}, {"b", `back\slash`}, {"c", "two\nlines"}, {"empty", ""}, {"d", "=x=#"}}
	if err := e.SetFirst(vars, isOurs); err != nil {
		t.Fatal(err)
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	editenv := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("grub-editenv", append([]string{path}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("grub-editenv %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	if got := editenv("list"); got != e.all() {
		t.Errorf("grub-editenv reads %q, want %q", got, e.all())
	}
	editenv("set", "a=2", "new=n")
	changed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e2, err := ParseEnv(changed)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range append(vars[1:], Variable{"a", "2"}, Variable{"new", "n"}) {
		if got, ok := e2.Get(v.Name); !ok || got != v.Value {
			t.Errorf("%s: got %q, %v; want %q", v.Name, got, ok, v.Value)
		}
	}
}

func TestNamesThatWouldNotComeBackAreRefused(t *testing.T) {
	for _, name := range []string{"", "a=b", "a\nb", "#a", `a\b`} {
		if err := (&Env{}).SetFirst([]Variable{{name, "x"}}, isOurs); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	if err := (&Env{}).SetFirst([]Variable{{"a", strings.Repeat("x", BlockSize)}}, isOurs); err != nil {
		t.Fatal(err)
	}
	e := &Env{}
	if err := e.SetFirst([]Variable{{"a", strings.Repeat("x", BlockSize)}}, isOurs); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Encode(); err == nil {
		t.Error("a block of more than 1024 bytes was encoded")
	}
}

func FuzzGRUBEnv(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(vectors, "*.env"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		f.Add(vector(f, filepath.Base(file)), "name", "value")
	}
	f.Add([]byte("a=1\n#x\\\n=\nb"), "b", "\\\n")
	f.Fuzz(func(t *testing.T, b []byte, name, value string) {
		if len(b) < BlockSize && !bytes.HasPrefix(b, []byte(signature)) { // lines only: make a block of them
			b = append([]byte(signature), b...)
			for len(b) < BlockSize {
				b = append(b, '#')
			}
		}
		e, err := ParseEnv(b)
		if err != nil {
			return
		}
		encoded, err := e.Encode()
		if err != nil {
			t.Fatalf("what was read does not fit: %v", err)
		}
		again, err := ParseEnv(encoded)
		if err != nil || !reflect.DeepEqual(again.entries, e.entries) {
			t.Fatalf("read %q again: %v", encoded, err)
		}
		if n := len(bytes.TrimRight(encoded, "#")); !bytes.Equal(encoded[:n], b[:n]) {
			t.Fatalf("foreign bytes changed:\n%q\n%q", b, encoded)
		}
		for _, slot := range slotRecords(e) {
			if slot.Priority > 2 || slot.Tries > 7 {
				t.Fatalf("read %+v", slot)
			}
		}
		if err := e.SetFirst([]Variable{{name, value}}, func(n string) bool { return n == name }); err != nil {
			return
		}
		encoded, err = e.Encode()
		if err != nil {
			return
		}
		again, err = ParseEnv(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := again.Get(name); !ok || got != value {
			t.Fatalf("set %q=%q, got %q, %v", name, value, got, ok)
		}
	})
}
