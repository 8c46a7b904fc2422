package efivars

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

// fake returns a directory in the form of an efivarfs with three boot entries.
func fake(t *testing.T) Store {
	t.Helper()
	s := Store(t.TempDir())
	for n, description := range []string{"twinkeel a", "twinkeel b", "Debian ü"} {
		// The end of a device path, UEFI 2.10, 10.3.1.
		b, err := Entry{Attributes: 1, Description: description, Path: []byte{0x7f, 0xff, 4, 0}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(EntryName(uint16(n)), Global, Variable{7, b}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Write("BootOrder", Global, Variable{7, EncodeOrder(2, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEfibootmgrSeesWhatIsWritten(t *testing.T) {
	needs.Tools(t, "efibootmgr")
	s := fake(t)
	if err := s.First(1); err != nil {
		t.Fatal(err)
	}
	if err := s.Next(0); err != nil {
		t.Fatal(err)
	}
	efibootmgr := func(args ...string) string {
		cmd := exec.Command("efibootmgr", args...)
		cmd.Env = append(os.Environ(), "LIBEFIVAR_OPS=efivarfs", "EFIVARFS_PATH="+string(s)+"/")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("efibootmgr %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	out := efibootmgr()
	for _, want := range []string{"BootNext: 0000", "BootOrder: 0001,0002,0000", "Boot0000* twinkeel a", "Boot0001* twinkeel b"} {
		if !strings.Contains(out, want) {
			t.Errorf("efibootmgr does not say %q:\n%s", want, out)
		}
	}
	efibootmgr("-n", "2", "-q")
	efibootmgr("-o", "0,1,2", "-q") // as many as before: a plain file, unlike efivarfs, keeps its length
	for name, want := range map[string][]uint16{"BootNext": {2}, "BootOrder": {0, 1, 2}} {
		v, err := s.Read(name, Global)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseOrder(v.Value); err != nil || !reflect.DeepEqual(got, want) || v.Attributes != NonVolatile|BootService|Runtime {
			t.Errorf("%s by efibootmgr: got %v, attributes %d, %v; want %v", name, got, v.Attributes, err, want)
		}
	}
}

// The bytes of a BootNext of entry 0x0102, and of a boot entry, as the specification has
// them.
func TestFormats(t *testing.T) {
	v := Variable{NonVolatile | BootService | Runtime, EncodeOrder(0x0102)}
	if got, want := v.Encode(), []byte{7, 0, 0, 0, 2, 1}; !bytes.Equal(got, want) {
		t.Errorf("BootNext: got %x, want %x", got, want)
	}
	e := Entry{1, "ab", []byte{0x7f, 0xff, 4, 0}, []byte{9}}
	want := []byte{1, 0, 0, 0, 4, 0, 'a', 0, 'b', 0, 0, 0, 0x7f, 0xff, 4, 0, 9}
	if got, err := e.Encode(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("entry: got %x, %v; want %x", got, err, want)
	}
	if got, err := ParseEntry(want); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("entry: got %+v, %v", got, err)
	}
	if got, err := ParseText(EncodeText("a\U0001f600")); err != nil || got != "a\U0001f600" {
		t.Errorf("text: got %q, %v", got, err)
	}
	if got := EntryName(0xab); got != "Boot00AB" {
		t.Errorf("got %s", got)
	}
}

func TestOnlyEntriesThatAreThereAreChosen(t *testing.T) {
	s := fake(t)
	if err := s.Next(9); err == nil {
		t.Error("entry 9 was made the next one")
	}
	if err := s.First(9); err == nil {
		t.Error("entry 9 was made the first one")
	}
	if _, err := os.Stat(filepath.Join(string(s), "BootNext-"+Global)); err == nil {
		t.Error("BootNext was written")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{7, 0, 0, 0, 2, 1})
	f.Add([]byte{7, 0, 0, 0, 1, 0, 0, 0, 4, 0, 'a', 0, 0, 0, 0x7f, 0xff, 4, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Parse(b)
		if err != nil {
			return
		}
		if got := v.Encode(); !bytes.Equal(got, b) {
			t.Fatalf("%x became %x", b, got)
		}
		if order, err := ParseOrder(v.Value); err == nil && !bytes.Equal(EncodeOrder(order...), v.Value) {
			t.Fatalf("order %x became %x", v.Value, EncodeOrder(order...))
		}
		e, err := ParseEntry(v.Value)
		if err != nil {
			return
		}
		back, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseEntry(back); err != nil || again.Description != e.Description || !bytes.Equal(again.Path, e.Path) || !bytes.Equal(again.Data, e.Data) {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}
