package partitions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeHost lays out a /dev and /sys in which regular files stand for disks.
func fakeHost(t *testing.T) host {
	h := host{dev: t.TempDir(), sys: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(h.sys, "block"), 0o755); err != nil {
		t.Fatal(err)
	}
	return h
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// addDisk adds a disk with the partitions of the vector "good".
func (h host) addDisk(t *testing.T, name, vector, part string) {
	t.Helper()
	b := image(t, vector)
	write(t, h.devPath(name), string(b))
	dir := filepath.Join(h.sys, "block", name)
	write(t, filepath.Join(dir, "size"), fmt.Sprintln(len(b)/512))
	write(t, filepath.Join(dir, "queue/logical_block_size"), "512\n")
	parts, err := readGPT(b)
	if err != nil {
		return
	}
	for _, p := range parts {
		sub := filepath.Join(dir, fmt.Sprintf("%s%s%d", name, part, p.Number))
		write(t, filepath.Join(sub, "partition"), fmt.Sprintln(p.Number))
		write(t, filepath.Join(sub, "start"), fmt.Sprintln(p.Start/512))
		write(t, filepath.Join(sub, "size"), fmt.Sprintln(p.Size/512))
	}
}

func TestResolveReadsTheTablesWhereUdevMadeNoLinks(t *testing.T) {
	h := fakeHost(t)
	h.addDisk(t, "sda", "mbr-over-gpt", "")
	h.addDisk(t, "cciss!c0d0", "good", "p")
	write(t, filepath.Join(h.sys, "block/sr0/size"), "0\n") // a drive without medium has no node to open
	for spec, want := range map[string]string{
		"PARTLABEL=root-a":                              "cciss/c0d0p3",
		"PARTLABEL=räksm/örgås π b":                     "cciss/c0d0p5",
		"PARTUUID=AAAAAAAA-0001-0002-0003-00000000001b": "cciss/c0d0p5",
	} {
		got, err := h.resolve(spec)
		if err != nil || got != filepath.Join(h.dev, want) {
			t.Errorf("%s: got %q, %v; want %s", spec, got, err, want)
		}
	}
	if _, err := h.resolve("PARTLABEL=root-x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown label: got %v, want fs.ErrNotExist", err)
	}
}

func TestResolvePrefersUdevsLink(t *testing.T) {
	h := fakeHost(t)
	h.addDisk(t, "sda", "good", "")
	write(t, filepath.Join(h.dev, "dm-7"), "")
	dir := filepath.Join(h.dev, "disk/by-partlabel")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../dm-7", filepath.Join(dir, `root\x20a\x2fb`)); err != nil {
		t.Fatal(err)
	}
	want, err := filepath.EvalSymlinks(filepath.Join(h.dev, "dm-7"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.resolve("PARTLABEL=root a/b"); err != nil || got != want {
		t.Errorf("got %q, %v; want %s", got, err, want)
	}
}

func TestResolveRefusesANameThatTwoPartitionsBear(t *testing.T) {
	h := fakeHost(t)
	h.addDisk(t, "sda", "good", "")
	h.addDisk(t, "sdb", "good", "")
	if got, err := h.resolve("PARTLABEL=root-a"); err == nil || !strings.Contains(err.Error(), "more than one") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestResolveRefusesATableThatTheKernelSeesOtherwise(t *testing.T) {
	h := fakeHost(t)
	h.addDisk(t, "sda", "good", "")
	write(t, filepath.Join(h.sys, "block/sda/sda3/start"), "129\n")
	if got, err := h.resolve("PARTLABEL=root-a"); err == nil || !strings.Contains(err.Error(), "the kernel sees") {
		t.Errorf("moved partition: got %q, %v", got, err)
	}
	if err := os.RemoveAll(filepath.Join(h.sys, "block/sda/sda1")); err != nil {
		t.Fatal(err)
	}
	if got, err := h.resolve("PARTLABEL=boot-a"); err == nil || !strings.Contains(err.Error(), "unknown to the kernel") {
		t.Errorf("partition without a node: got %q, %v", got, err)
	}
}

func TestCheckSpecRefusesWhatNamesNothing(t *testing.T) {
	for _, good := range []string{"PARTLABEL=a", "PARTUUID=1", "/dev/sda1", "/srv/slot-a.img"} {
		if err := CheckSpec(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "PARTLABEL=", "PARTUUID=", "LABEL=x", "slot.img", "../x", "/a\x00b", "PARTLABEL=a\x00", "PARTLABEL=" + strings.Repeat("x", 129)} {
		if err := CheckSpec(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
