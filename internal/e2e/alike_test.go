package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/twinkeel/twinkeel/internal/vm"
)

func TestABootNeedsWhatItReadBeforeItWroteIt(t *testing.T) {
	for what, c := range map[string]struct {
		accesses      []vm.Access
		read, written []span
	}{
		"neighbours are one span": {[]vm.Access{{At: 1024, Size: 512}, {Size: 1024}}, []span{{0, 1536}}, nil},
		"read again":              {[]vm.Access{{Size: 512}, {Size: 512}}, []span{{0, 512}}, nil},
		"written first":           {[]vm.Access{{At: 512, Size: 512, Write: true}, {Size: 1536}}, []span{{0, 512}, {1024, 512}}, []span{{512, 512}}},
		"written later":           {[]vm.Access{{Size: 512}, {Size: 512, Write: true}}, []span{{0, 512}}, []span{{0, 512}}},
		"only written":            {[]vm.Access{{Size: 512, Write: true}}, nil, []span{{0, 512}}},
	} {
		if read, written := needs(c.accesses); !slices.Equal(read, c.read) || !slices.Equal(written, c.written) {
			t.Errorf("%s: got %v and %v, want %v and %v", what, read, written, c.read, c.written)
		}
	}
}

func TestADiskBootsAsAnotherIfItIsTheSameInAllThatWasRead(t *testing.T) {
	dir := t.TempDir()
	still, disk, trace := filepath.Join(dir, "still"), filepath.Join(dir, "disk"), filepath.Join(dir, "trace")
	content := make([]byte, 8*traceUnit)
	put := func(path string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(still, content)
	copy(content[3*traceUnit:], "loader")
	put(disk, content)
	clear(content)
	const request = " vdev 0x1 req 0x2 sector "
	put(trace, []byte("virtio_blk_handle_write"+request+"3 nsectors 1\nvirtio_blk_handle_read"+request+"0 nsectors 4\n"))
	f := &frozen{}
	if err := f.until(trace, still, disk); err != nil {
		t.Fatal(err)
	}
	if len(f.wrote) != 1 || f.wrote[0].At != 3*traceUnit || !bytes.HasPrefix(f.wrote[0].Data, []byte("loader")) {
		t.Errorf("written: got %+v", f.wrote)
	}
	for sector, want := range []bool{false, false, false, true, true} {
		content[sector*traceUnit+1] = 1
		put(disk, content)
		if got, err := f.alike(disk); got != want || err != nil {
			t.Errorf("sector %d differs: alike %t, %v, want %t", sector, got, err, want)
		}
		content[sector*traceUnit+1] = 0
	}
	if got, err := (*frozen)(nil).alike(disk); got || err != nil {
		t.Errorf("before the first boot: alike %t, %v", got, err)
	}
	put(trace, []byte("virtio_blk_handle_read"+request+"1 nsectors 4\n"))
	if err := f.until(trace, still, disk); err == nil {
		t.Error("a trace without the firmware's first read is taken for one of a boot")
	}
}

func TestPrefixesOfAPartAreNeighbours(t *testing.T) {
	var points []cutPoint
	for n := range 30 {
		points = append(points, cutPoint{n: n + 1})
	}
	for n := range 8 {
		points = append(points, cutPoint{n: n + 1, chance: true})
	}
	last, size := 0, map[int]int{}
	for i, p := range points {
		part := partOf(points, i, 4)
		if size[part]++; p.chance {
			continue
		}
		if part < last || part > last+1 {
			t.Errorf("prefix %d is in part %d, the one before in %d", i, part, last)
		}
		last = part
	}
	for part := range 4 {
		if size[part] < 9 || size[part] > 10 {
			t.Errorf("part %d has %d states", part, size[part])
		}
	}
}

func TestEveryPartOfASampleHasAState(t *testing.T) {
	for _, sample := range []options{{prefixes: 3, torn: 2}, {prefixes: 8, torn: 4}, {prefixes: 2, torn: 5}, {prefixes: 500, torn: 40}} {
		e := &engine{options: sample}
		for range 1000 {
			e.effects = append(e.effects, vm.Effect{At: bootEnvAt, Data: make([]byte, traceUnit)})
		}
		points, parts := e.points(), len(e.writeLog())
		states := map[int]int{}
		for i := range points {
			states[partOf(points, i, parts)]++
		}
		if len(points) != sample.prefixes+sample.torn || len(states) != parts {
			t.Errorf("%d prefixes and %d others: got %d states, in %d of %d parts", sample.prefixes, sample.torn, len(points), len(states), parts)
		}
	}
}
