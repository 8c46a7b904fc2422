package config

import (
	"os"
	"path/filepath"
	"testing"
)

// The vector was made with:
// printf 'twinkeel host id 1' | openssl dgst -sha256 -mac HMAC -macopt hexkey:<id> | cut -c1-32
func TestHostIDHidesTheMachineID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "machine-id")
	if err := os.WriteFile(path, []byte("0123456789abcdef0123456789abcdef\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := machineHostID(path)
	if err != nil || got != "3bd143c81a4f139d705d11ddf171aac6" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("uninitialized\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := machineHostID(path); err == nil {
		t.Errorf("uninitialized: got %q", got)
	}
}
