package devmapper

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// The layout is that of linux/include/uapi/linux/dm-ioctl.h, counted by hand.
func TestATableIsLaidOutAsTheKernelReadsIt(t *testing.T) {
	params := "1 254:1 254:1 4096 4096 2 2 sha256 00 -"
	spec, err := target("verity", params, 16)
	if err != nil {
		t.Fatal(err)
	}
	m := message("root", readOnly, spec)
	le := binary.LittleEndian
	for _, f := range []struct {
		what      string
		at        int
		got, want uint32
	}{
		{"version", 0, le.Uint32(m), 4},
		{"data_size", 12, le.Uint32(m[12:]), messageSize},
		{"data_start", 16, le.Uint32(m[16:]), 312},
		{"target_count", 20, le.Uint32(m[20:]), 1},
		{"flags", 28, le.Uint32(m[28:]), 1},
		{"length in sectors", 320, le.Uint32(m[320:]), 16},
		{"next", 332, le.Uint32(m[332:]), uint32(len(spec))},
	} {
		if f.got != f.want {
			t.Errorf("%s at %d: got %d, want %d", f.what, f.at, f.got, f.want)
		}
	}
	if got := string(bytes.TrimRight(m[48:176], "\x00")); got != "root" {
		t.Errorf("name: got %q", got)
	}
	if got := string(bytes.TrimRight(m[336:352], "\x00")); got != "verity" {
		t.Errorf("target type: got %q", got)
	}
	if got, _, _ := bytes.Cut(m[352:], []byte{0}); string(got) != params {
		t.Errorf("parameters: got %q", got)
	}
	if len(spec)%8 != 0 {
		t.Errorf("a target of %d bytes is not aligned", len(spec))
	}
}

func TestATableThatIsTooLongIsRefused(t *testing.T) {
	if _, err := target("verity", strings.Repeat("x", messageSize), 1); err == nil {
		t.Error("it was taken")
	}
}

func TestDamageIsReadFromTheStatus(t *testing.T) {
	for _, c := range []struct {
		status  string
		targets uint32
		want    bool
		fails   bool
	}{{"V", 1, false, false}, {"C", 1, true, false}, {"", 1, false, true}, {"V", 2, false, true}, {"Verity", 1, false, true}} {
		m := message("root", 0, nil)
		binary.LittleEndian.PutUint32(m[20:], c.targets)
		copy(m[headerSize+targetSize:], c.status)
		got, err := damaged(m)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%q of %d targets: got %t, %v", c.status, c.targets, got, err)
		}
	}
	m := message("root", 0, nil)
	binary.LittleEndian.PutUint32(m[20:], 1)
	binary.LittleEndian.PutUint32(m[16:], messageSize)
	if _, err := damaged(m); err == nil {
		t.Error("an answer that begins behind its end was read")
	}
}
