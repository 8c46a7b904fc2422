package ubootenv

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/bootloadertest"
)

const size = 0x2000

var vars = Variables{"bootcmd": "run twinkeel", "bootdelay": "0", "empty": "", "twinkeel_a_tries": "3", "eq": "a=b"}

func run(t *testing.T, in, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

func TestWhatMkenvimageWritesIsReadAndWrittenAlike(t *testing.T) {
	needs.Tools(t, "mkenvimage")
	text := ""
	for _, name := range []string{"bootcmd", "bootdelay", "empty", "eq", "twinkeel_a_tries"} {
		text += name + "=" + vars[name] + "\n"
	}
	for _, redundant := range []bool{false, true} {
		out := filepath.Join(t.TempDir(), "env")
		args := []string{"-s", fmt.Sprint(size), "-p", "0", "-o", out}
		if redundant {
			args = append(args, "-r")
		}
		run(t, text, "mkenvimage", append(args, "-")...)
		want, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		got, flags, err := Parse(want, redundant)
		if err != nil || !maps.Equal(got, vars) {
			t.Fatalf("redundant %v: got %q, %v", redundant, got, err)
		}
		if b, err := got.Encode(size, redundant, flags); err != nil || !bytes.Equal(b, want) {
			t.Errorf("redundant %v: written otherwise, %v", redundant, err)
		}
	}
}

// files is a pair in a file, as fw_printenv reads it.
func files(t *testing.T) (pair Pair, config string, d *bootloadertest.Disk, save, load func()) {
	t.Helper()
	dir := t.TempDir()
	config = filepath.Join(dir, "fw_env.config")
	path := filepath.Join(dir, "env")
	line := fmt.Sprintf("%s 0x0 0x%x\n%s 0x%x 0x%x\n", path, size, path, size, size)
	if err := os.WriteFile(config, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	d = bootloadertest.NewDisk(map[string]int{"first": size, "second": size})
	pair = Pair{[2]bootloader.Block{d.Block("first"), d.Block("second")}, size}
	save = func() {
		if err := os.WriteFile(path, append(bytes.Clone(d.Raw()["first"]), d.Raw()["second"]...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load = func() {
		b, err := os.ReadFile(path)
		if err != nil || len(b) != 2*size {
			t.Fatal(len(b), err)
		}
		copy(d.Raw()["first"], b[:size])
		copy(d.Raw()["second"], b[size:])
	}
	return pair, config, d, save, load
}

// logged is a block that says what is done to it.
type logged struct {
	bootloader.Block
	name string
	log  *[]string
}

func (l logged) WriteAt(p []byte, off int64) (int, error) {
	*l.log = append(*l.log, "write "+l.name)
	return l.Block.WriteAt(p, off)
}

func (l logged) Flush() error {
	*l.log = append(*l.log, "flush "+l.name)
	return l.Block.Flush()
}

func TestTheCopyThatCountsIsDurableBeforeTheOtherIsWritten(t *testing.T) {
	pair, _, _, _, _ := files(t)
	if err := pair.Write(vars); err != nil {
		t.Fatal(err)
	}
	var log []string
	for i, name := range []string{"first", "second"} {
		pair.Copies[i] = logged{pair.Copies[i], name, &log}
	}
	if err := pair.Write(vars); err != nil {
		t.Fatal(err)
	}
	if want := []string{"flush second", "write first", "flush first"}; !slices.Equal(log, want) {
		t.Errorf("got %q, want %q", log, want)
	}
}

func TestFwPrintenvReadsWhatPairWrites(t *testing.T) {
	needs.Tools(t, "fw_printenv")
	pair, config, d, save, load := files(t)
	for i := range 300 { // beyond the wrap of the flags
		v := maps.Clone(vars)
		v["n"] = fmt.Sprint(i)
		if err := pair.Write(v); err != nil {
			t.Fatal(err)
		}
		if i%7 != 0 && i < 253 || i > 260 && i%7 != 0 {
			continue
		}
		save()
		if got := run(t, "", "fw_printenv", "-c", config, "-n", "n"); strings.TrimSpace(got) != fmt.Sprint(i) {
			t.Fatalf("write %d: fw_printenv says %q, flags %d and %d", i, got, d.Raw()["first"][4], d.Raw()["second"][4])
		}
		run(t, "", "fw_setenv", "-c", config, "from", fmt.Sprint(i))
		load()
		v["from"] = fmt.Sprint(i)
		if got, err := pair.Read(); err != nil || !maps.Equal(got, v) {
			t.Fatalf("write %d, then fw_setenv: got %q, %v; want %q", i, got, err, v)
		}
	}
}

func TestACutWriteLeavesTheOldEnvironment(t *testing.T) {
	pair, _, d, _, _ := files(t)
	for _, n := range []string{"1", "2"} {
		if err := pair.Write(Variables{"n": n}); err != nil {
			t.Fatal(err)
		}
	}
	old := map[string][]byte{"first": bytes.Clone(d.Raw()["first"]), "second": bytes.Clone(d.Raw()["second"])}
	if err := pair.Write(Variables{"n": "3"}); err != nil {
		t.Fatal(err)
	}
	for name, now := range d.Raw() {
		for at := 1; at < 24; at++ {
			torn := append(bytes.Clone(now[:at]), old[name][at:]...)
			if bytes.Equal(torn, now) || bytes.Equal(torn, old[name]) {
				continue
			}
			kept := bytes.Clone(now)
			copy(now, torn)
			if got, err := pair.Read(); err != nil || got["n"] != "2" {
				t.Errorf("%s torn at %d: got %q, %v", name, at, got, err)
			}
			copy(now, kept)
		}
	}
}

func TestNewerFlags(t *testing.T) {
	for _, tt := range []struct {
		a, b byte
		want bool
	}{{1, 0, true}, {0, 1, false}, {0, 255, true}, {255, 0, false}, {7, 7, false}, {255, 254, true}} {
		if got := newer(tt.a, tt.b); got != tt.want {
			t.Errorf("newer(%d, %d) = %v", tt.a, tt.b, got)
		}
	}
}

func TestWhatCannotBeStoredIsRefused(t *testing.T) {
	for name, v := range map[string]Variables{
		"no name": {"": "x"}, "equals sign": {"a=b": "x"}, "NUL": {"a": "x\x00y"}, "too long": {"a": strings.Repeat("x", 57)},
	} {
		if b, err := v.Encode(64, true, 1); err == nil {
			t.Errorf("%s: got %q", name, b)
		}
	}
	if b, err := (Variables{"a": strings.Repeat("x", 55)}).Encode(64, true, 1); err != nil || len(b) != 64 {
		t.Errorf("the longest one: got %d bytes, %v", len(b), err)
	}
}

func FuzzParse(f *testing.F) {
	for _, redundant := range []bool{false, true} {
		b, err := vars.Encode(128, redundant, 3)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, redundant)
	}
	f.Fuzz(func(t *testing.T, b []byte, redundant bool) {
		v, flags, err := Parse(b, redundant)
		if err != nil {
			return
		}
		again, err := v.Encode(len(b)+1, redundant, flags) // a list may end with its area
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := Parse(again, redundant); err != nil || !maps.Equal(got, v) {
			t.Fatalf("%q became %q, %v", v, got, err)
		}
	})
}

// The vector was made by mkenvimage -r -s 128 -p 0.
func TestTheGoldenVectorIsReadAndWritten(t *testing.T) {
	want, err := os.ReadFile("testdata/redundant.bin")
	if err != nil {
		t.Fatal(err)
	}
	v := Variables{"bootcmd": "run twinkeel", "twinkeel_b_tries": "3"}
	if got, flags, err := Parse(want, true); err != nil || flags != 1 || !maps.Equal(got, v) {
		t.Errorf("got %q, flags %d, %v", got, flags, err)
	}
	if got, err := v.Encode(128, true, 1); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, %v", got, err)
	}
	for i := range want { // one bit anywhere, but for the flags, which no checksum covers
		bad := bytes.Clone(want)
		bad[i] ^= 0x40
		if _, _, err := Parse(bad, true); (err == nil) != (i == 4) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}
