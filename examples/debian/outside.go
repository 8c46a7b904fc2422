package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/internal/machine"
	"github.com/twinkeel/twinkeel/internal/readstate"
	"github.com/twinkeel/twinkeel/internal/vm"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// sector is the size of the disk's sectors in bytes.
const sector = 512

// stateDir is where the agent's state lies on the data partition: /var/lib/twinkeel, as
// docs/format-boot.md has it.
const stateDir = "/twinkeel/var/upper/lib/twinkeel"

// outside examines the disk of a machine that is off, with tools that are neither the loader's
// nor the machine's.
type outside struct {
	ctx   context.Context
	bin   string
	disk  string
	dir   string // for what is copied out
	table []partitions.Partition
	want  map[string]map[string]string // by version, by image: a file with what a slot holds of it

	whole  map[string]string // by partition of a slot: the version it holds, as long as nobody writes to it
	states *readstate.Reader
	record [32]byte // of the partition with the boot record, when it was read
}

// examine begins with the disk of a factory.
func (s *show) examine(disk string, versions ...string) (*outside, error) {
	o := &outside{ctx: s.ctx, bin: s.bin, disk: disk, dir: filepath.Join(s.work, "outside"),
		want: map[string]map[string]string{}, whole: map[string]string{}}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return nil, err
	}
	for _, v := range versions {
		m, err := s.manifest(v)
		if err != nil {
			return nil, err
		}
		o.want[v] = map[string]string{}
		for _, i := range m.Images {
			path := filepath.Join(o.dir, i.Name+"-"+v)
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				return nil, err
			}
			root, err := machine.WriteImage(path, s.image(v, i.Name), i.Salt)
			if err != nil {
				return nil, err
			}
			if root != i.Root {
				return nil, fmt.Errorf("release %s, image %s: got root %s, want %s as it was signed", v, i.Name, root, i.Root)
			}
			o.want[v][i.Name] = path
		}
	}
	var err error
	o.states, err = readstate.New(s.ctx, filepath.Join(s.bin, "twinkeel"), o.dir, channel, compatible, [2]string{o.want["1.0"]["root"], o.want["1.1"]["root"]})
	if err != nil {
		return nil, err
	}
	table, err := o.gpt()
	o.table = table
	return o, err
}

// manifest returns what was signed of a release.
func (s *show) manifest(version string) (m release.Manifest, err error) {
	found, err := filepath.Glob(filepath.Join(s.site(), "repository/targets/os", channel, compatible, "*."+version+".json"))
	if err != nil || len(found) != 1 {
		return m, fmt.Errorf("manifest of %s: got %d files, want one, %w", version, len(found), err)
	}
	raw, err := os.ReadFile(found[0])
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(raw, &m)
}

// gpt reads the partition table.
func (o *outside) gpt() ([]partitions.Partition, error) {
	f, err := os.Open(o.disk)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return partitions.ReadGPT(f, st.Size(), sector)
}

// at names the partition that holds a byte of the disk; "" if none does.
func (o *outside) at(where int64) string {
	for _, p := range o.table {
		if where >= p.Start && where < p.Start+p.Size {
			return p.Name
		}
	}
	return ""
}

func (o *outside) partition(name string) partitions.Partition {
	i := slices.IndexFunc(o.table, func(p partitions.Partition) bool { return p.Name == name })
	if i < 0 {
		return partitions.Partition{}
	}
	return o.table[i]
}

// written is told of the partition that a write changed, and checks what depends on it. For a
// slot that is nothing: what it holds matters when the loader picks it.
func (o *outside) written(name string) error {
	switch {
	case isSlot(name):
		delete(o.whole, name)
		return nil
	case name == "data":
		return o.checkData()
	}
	table, err := o.gpt()
	if err != nil || !slices.Equal(table, o.table) {
		return fmt.Errorf("partition table: got %v, %w", table, err)
	}
	_, _, err = o.picked()
	return err
}

func isSlot(name string) bool { return strings.HasSuffix(name, "-a") || strings.HasSuffix(name, "-b") }

// all checks everything, of a disk of which nothing is known.
func (o *outside) all() error {
	clear(o.whole)
	return errors.Join(o.written("bootenv"), o.written("data"))
}

// picked reads the boot record and checks that the slot that the loader picks by it holds a
// release, whole, as it was signed, with its hash trees, and that the record says so.
func (o *outside) picked() (slot, version string, err error) {
	r, err := vm.GRUBRecord(o.ctx, o.disk, o.partition("bootenv").Start, filepath.Join(o.dir, "record"))
	if err != nil {
		return "", "", err
	}
	if o.record, err = o.digest("bootenv"); err != nil {
		return "", "", err
	}
	next, ok := r.Next()
	if !ok {
		return "", "", fmt.Errorf("boot record: no slot can boot: %+v", r.Slots)
	}
	for _, image := range []string{"root", "boot"} {
		v, err := o.holds(image + "-" + next.String())
		if err != nil {
			return "", "", fmt.Errorf("slot %s is next: %w", next, err)
		}
		if version != "" && version != v {
			return "", "", fmt.Errorf("slot %s is next: holds the root of %s and the boot image of %s", next, version, v)
		}
		version = v
	}
	return next.String(), version, o.described(r, next, version)
}

// described checks that the fallback of a trial is there: a slot that is committed.
func (o *outside) described(r bootloader.State, next partitions.Slot, version string) error {
	other := r.Slots[next.Other()]
	if !r.Slots[next].Successful && !(other.Successful && other.Bootable()) {
		return fmt.Errorf("boot record: slot %s with %s is on trial, and slot %s is no way back: %+v", next, version, next.Other(), r.Slots)
	}
	return nil
}

// holds returns which release a partition of a slot holds.
func (o *outside) holds(name string) (string, error) {
	if v := o.whole[name]; v != "" {
		return v, nil
	}
	image := name[:len(name)-len("-a")]
	for v, files := range o.want {
		same, err := o.same(name, files[image])
		if err != nil {
			return "", err
		}
		if same {
			o.whole[name] = v
			return v, nil
		}
	}
	return "", fmt.Errorf("%s: holds no release that was signed", name)
}

// same reports whether a partition begins with a file.
func (o *outside) same(name, path string) (bool, error) {
	disk, err := os.Open(o.disk)
	if err != nil {
		return false, err
	}
	defer disk.Close()
	want, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer want.Close()
	p := o.partition(name)
	at, a, b := int64(0), make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err := want.ReadAt(a, at)
		if n == 0 {
			return errors.Is(err, io.EOF), nil
		}
		if at+int64(n) > p.Size {
			return false, nil
		}
		if _, err := disk.ReadAt(b[:n], p.Start+at); err != nil {
			return false, err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return false, nil
		}
		at += int64(n)
	}
}

// copyOut copies a partition.
func (o *outside) copyOut(name string, to io.Writer) error {
	f, err := os.Open(o.disk)
	if err != nil {
		return err
	}
	defer f.Close()
	p := o.partition(name)
	_, err = io.Copy(to, io.NewSectionReader(f, p.Start, p.Size))
	return err
}

func (o *outside) digest(name string) (d [32]byte, err error) {
	h := sha256.New()
	err = o.copyOut(name, h)
	return [32]byte(h.Sum(nil)), err
}

// checkData checks the data partition: its file system, once its journal is replayed, and that
// the agent's own code reads its state.
func (o *outside) checkData() error {
	image, dir := filepath.Join(o.dir, "data.img"), filepath.Join(o.dir, "state")
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(o.copyOut("data", f), f.Close()); err != nil {
		return err
	}
	out, err := o.run("e2fsck", "-f", "-p", image)
	var exit *exec.ExitError
	// 1: what a journal's replay and a dirty mount leave was put right.
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return fmt.Errorf("data partition: %w: %s", err, out)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	if out, err := o.run("debugfs", "-R", "rdump "+stateDir+" "+dir, image); err != nil {
		return fmt.Errorf("data partition: %w: %s", err, out)
	}
	return o.states.Read(o.ctx, filepath.Join(dir, filepath.Base(stateDir)))
}

// run runs a tool that Debian may keep where only root's PATH leads.
func (o *outside) run(name string, args ...string) ([]byte, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/sbin/" + name
	}
	return exec.CommandContext(o.ctx, path, args...).CombinedOutput()
}
