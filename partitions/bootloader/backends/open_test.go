package backends

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/twinkeel/twinkeel/partitions/bootloader/grub"
	"github.com/twinkeel/twinkeel/partitions/bootloader/simulated"
)

func TestOpenChoosesByNameOrByWhatIsThere(t *testing.T) {
	root, bare := t.TempDir(), t.TempDir()
	dir := filepath.Join(root, "efi/twinkeel")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := grub.MakeFiles(dir); err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(root, "record")
	if err := os.WriteFile(record, make([]byte, simulated.Size), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path, root string
		want, reason     string // "" if it is refused
	}{
		{"auto", "", root, GRUB, "grub: found: " + dir},
		{"auto", dir, bare, GRUB, "grub: the configured path is a directory: " + dir},
		{"auto", record, root, Simulated, "simulated: the configured path is no directory: " + record},
		{"grub", "", root, GRUB, "grub: configured: " + dir},
		{"grub", dir, bare, GRUB, "grub: configured: " + dir},
		{"simulated", record, bare, Simulated, "simulated: configured: " + record},
		{"auto", "", bare, "", ""},
		{"auto", "relative", root, "", ""},
		{"auto", record + "x", root, "", ""},
		{"auto", bare, root, "", ""},
		{"grub", record, root, "", ""},
		{"grub", "", bare, "", ""},
		{"simulated", "", root, "", ""},
		{"simulated", dir, root, "", ""},
		{"uboot", "", root, "", ""},
	} {
		got, err := open(tt.name, tt.path, tt.root)
		if (err == nil) != (tt.want != "") || got.Name != tt.want || got.Reason != tt.reason {
			t.Errorf("%s %q: got %+v, %v; want %q, %q", tt.name, tt.path, got, err, tt.want, tt.reason)
		}
		if (got.Loader == nil) != (tt.want == "") {
			t.Errorf("%s %q: got loader %v", tt.name, tt.path, got.Loader)
		}
	}
	if _, err := open("auto", "", bare); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing there: got %v, want os.ErrNotExist", err)
	}
}

func TestADamagedRecordIsNotPassedOverForAnother(t *testing.T) {
	root := t.TempDir()
	for _, d := range grubDirs {
		dir := filepath.Join(root, d)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := grub.MakeFiles(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(root, grubDirs[0], "grubenv")); err != nil {
		t.Fatal(err)
	}
	if got, err := open("auto", "", root); err == nil {
		t.Errorf("got %+v", got)
	}
}
