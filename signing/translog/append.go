package translog

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/twinkeel/twinkeel/release"
)

// File is one file of a repository.
type File struct {
	Path string
	Data []byte
}

// Append returns the files that the log of v needs to hold further entries as well, and
// its checkpoint then, unsigned. Until that is published the files mean nothing, and a
// later Append may give some of the same names other contents.
func (v *View) Append(entries []Entry) ([]File, Checkpoint, error) {
	old := v.Checkpoint
	if len(entries) > MaxSize || old.Size > MaxSize-int64(len(entries)) {
		return nil, old, fmt.Errorf("append to log: got %d more entries than %d, want at most %d", len(entries), old.Size, int64(MaxSize))
	}
	next := Checkpoint{Origin: old.Origin, Size: old.Size + int64(len(entries))}
	added := map[int64]tlog.Hash{}
	hashes := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		list := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			h, ok := added[x]
			if !ok {
				var err error
				if h, err = v.read(x); err != nil {
					return nil, err
				}
			}
			list[i] = h
		}
		return list, nil
	})
	var files []File
	bundles, err := v.bundles(entries)
	if err != nil {
		return nil, old, fmt.Errorf("append to log: %w", err)
	}
	for i, e := range entries {
		n := old.Size + int64(i)
		stored, err := tlog.StoredHashes(n, e.Encode(), hashes)
		if err != nil {
			return nil, old, fmt.Errorf("append to log: %w", err)
		}
		first := tlog.StoredHashIndex(0, n)
		for j, h := range stored {
			added[first+int64(j)] = h
		}
		files = append(files, File{IndexPath(e.Leaf()), fmt.Appendf(nil, "%d\n", n)})
	}
	for _, t := range tlog.NewTiles(tileHeight, old.Size, next.Size) {
		b, err := tlog.ReadTileData(t, hashes)
		if err != nil {
			return nil, old, fmt.Errorf("append to log: %w", err)
		}
		files = append(files, File{tilePath(t), b})
	}
	root, err := tlog.TreeHash(next.Size, hashes)
	if err != nil {
		return nil, old, fmt.Errorf("append to log: %w", err)
	}
	next.Root = release.Digest(root)
	return append(files, bundles...), next, nil
}

// bundles returns the files of entries that change: the last one, as far as it was not
// full, and those after it.
func (v *View) bundles(entries []Entry) ([]File, error) {
	first := v.Checkpoint.Size / tileWidth * tileWidth
	var records [][]byte
	err := v.Entries(first, func(_ int64, e Entry) error {
		records = append(records, e.Encode())
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		b := e.Encode()
		if _, err := ParseEntry(b); err != nil {
			return nil, err
		}
		records = append(records, b)
	}
	var files []File
	for n, part := range slices.Collect(slices.Chunk(records, tileWidth)) {
		var b []byte
		for _, r := range part {
			b = binary.BigEndian.AppendUint16(b, uint16(len(r)))
			b = append(b, r...)
		}
		t := tlog.Tile{H: tileHeight, L: -1, N: first/tileWidth + int64(n), W: len(part)}
		files = append(files, File{tilePath(t), b})
	}
	return files, nil
}

// Files returns the paths of all tiles of hashes that the log at c consists of, and with
// entries those as well, sorted. A host needs some of the hashes; an auditor needs all.
func (c Checkpoint) Files(entries bool) []string {
	paths := map[string]bool{}
	for _, t := range tlog.NewTiles(tileHeight, 0, c.Size) {
		paths[tilePath(t)] = true
		if t.L == 0 && entries {
			t.L = -1
			paths[tilePath(t)] = true
		}
	}
	return slices.Sorted(maps.Keys(paths))
}
