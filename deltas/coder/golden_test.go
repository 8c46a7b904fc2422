package coder

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/coder anew")

const golden = "../../testdata/coder"

// NAME.code is the code of NAME.raw.
func TestGoldenCodesAreReadAndWritten(t *testing.T) {
	for kind, name := range names {
		name = filepath.Join(golden, name)
		if *update {
			raw := sample(Kind(kind), 6000, 1)
			write(t, name+".raw", raw)
			write(t, name+".code", encode(t, Kind(kind), raw))
		}
		raw, code := load(t, name+".raw"), load(t, name+".code")
		if got, err := decode(Kind(kind), code, len(raw)); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%s: decoded to other bytes (%v)", name, err)
		}
		if !bytes.Equal(encode(t, Kind(kind), raw), code) {
			t.Errorf("%s: encoded to other bytes", name)
		}
	}
}

// Long streams fill the tables and push contexts out of them: that is part of the format.
func TestCodesOfLongStreamsStayTheSame(t *testing.T) {
	want := [kinds]string{
		Instructions: "6d225010e1c3e5fa",
		Literals:     "491a37625702a8eb",
		Difference:   "4f692f286a0a86a9",
	}
	for kind := range kinds {
		raw := sample(kind, 400_000, 2)
		code := encode(t, kind, raw)
		sum := sha256.Sum256(code)
		if got := hex.EncodeToString(sum[:8]); got != want[kind] {
			t.Errorf("%s: got %d bytes with digest %s, want %s", names[kind], len(code), got, want[kind])
		}
		if got, err := decode(kind, code, len(raw)); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%s: decoded to other bytes (%v)", names[kind], err)
		}
	}
}

func load(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
