package backends

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader/efivars"
	"github.com/twinkeel/twinkeel/partitions/bootloader/grub"
	"github.com/twinkeel/twinkeel/partitions/bootloader/sdboot"
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
		got, err := open(Config{Name: tt.name, Path: tt.path}, tt.root)
		if (err == nil) != (tt.want != "") || got.Name != tt.want || got.Reason != tt.reason {
			t.Errorf("%s %q: got %+v, %v; want %q, %q", tt.name, tt.path, got, err, tt.want, tt.reason)
		}
		if (got.Loader == nil) != (tt.want == "") {
			t.Errorf("%s %q: got loader %v", tt.name, tt.path, got.Loader)
		}
	}
	if _, err := open(Config{Name: Auto}, bare); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing there: got %v, want os.ErrNotExist", err)
	}
}

func TestADamagedRecordIsNotPassedOverForAnother(t *testing.T) {
	root := t.TempDir()
	for _, dir := range grubPlaces("", root) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := grub.MakeFiles(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(root, "boot/twinkeel/grubenv")); err != nil {
		t.Fatal(err)
	}
	if got, err := open(Config{Name: Auto}, root); err == nil {
		t.Errorf("got %+v", got)
	}
}

// esp makes a directory that holds the record of systemd-boot.
func esp(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := sdboot.MakeFiles(dir); err != nil {
		t.Fatal(err)
	}
}

func noKernels(partitions.Slot) (partitions.OpenDevice, error) { return nil, os.ErrNotExist }

func TestSystemdBootIsFoundByItsRecord(t *testing.T) {
	root, bare := t.TempDir(), t.TempDir()
	dir := filepath.Join(root, "efi")
	esp(t, dir)
	for _, tt := range []struct {
		c      Config
		root   string
		reason string // "" if it is refused
	}{
		{Config{Auto, "", noKernels}, root, "systemd-boot: found: " + dir},
		{Config{Auto, dir, noKernels}, bare, "systemd-boot: the configured path holds its record: " + dir},
		{Config{SDBoot, "", noKernels}, root, "systemd-boot: configured: " + dir},
		{Config{SDBoot, dir, noKernels}, bare, "systemd-boot: configured: " + dir},
		{Config{SDBoot, "", noKernels}, bare, ""},
		{Config{SDBoot, bare, noKernels}, root, ""},
		{Config{Auto, "", nil}, root, ""},
	} {
		got, err := open(tt.c, tt.root)
		if (err == nil) != (tt.reason != "") || got.Reason != tt.reason || (err == nil) != (got.Name == SDBoot) {
			t.Errorf("%s %q: got %+v, %v; want %q", tt.c.Name, tt.c.Path, got, err, tt.reason)
		}
	}
}

func TestOfTwoRecordsTheOneOfTheLoaderThatRanCounts(t *testing.T) {
	for ran, want := range map[string]string{"": "", "systemd-boot 252.39-1": SDBoot, "GRUB 2.12": GRUB} {
		root := t.TempDir()
		esp(t, filepath.Join(root, "boot/efi"))
		if _, err := grub.MakeFiles(filepath.Join(root, "boot/efi/twinkeel")); err != nil {
			t.Fatal(err)
		}
		if ran != "" {
			vars := filepath.Join(root, efivars.Dir)
			if err := os.MkdirAll(vars, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := efivars.Store(vars).Write("LoaderInfo", efivars.Loader, efivars.Variable{Value: efivars.EncodeText(ran)}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := open(Config{Auto, "", noKernels}, root)
		if (err == nil) != (want != "") || got.Name != want || !strings.Contains(got.Reason, ran) {
			t.Errorf("%q ran: got %+v, %v; want %q", ran, got, err, want)
		}
	}
}

func TestWhatCannotBeUsedIsNamed(t *testing.T) {
	root := t.TempDir()
	for _, path := range []string{"etc/fw_env.config", "boot/firmware/autoboot.txt"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(Config{Name: Auto}, root); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s is there: got %v", path, err)
		}
	}
}
