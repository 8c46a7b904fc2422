package translog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/twinkeel/twinkeel/release"
)

// Tiles are those of C2SP: 256 hashes of one level each.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	maxTile    = tileWidth * tlog.HashSize
	maxBundle  = tileWidth * (2 + maxEntry) // bytes of one file of entries
	maxIndex   = 16                         // bytes
)

// Dir is where a repository keeps its log; CheckpointPath is its newest checkpoint.
const (
	Dir            = "log/"
	CheckpointPath = Dir + "checkpoint"
)

// IndexPath is the file that tells where in the log a leaf stands: a decimal number and
// a line feed. It is a hint, as nobody signs it.
func IndexPath(leaf release.Digest) string { return Dir + "index/" + leaf.String() }

// tilePath is C2SP's path of a tile; level -1 holds entries.
func tilePath(t tlog.Tile) string {
	p := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", tileHeight))
	if rest, ok := strings.CutPrefix(p, "data/"); ok {
		p = "entries/" + rest
	}
	return Dir + "tile/" + p
}

// Source delivers the files of a log. Nothing it returns is believed.
type Source interface {
	// Fetch returns the whole file at path, relative to the repository. One that is not
	// there is fs.ErrNotExist; more than limit bytes are an error. Errors name the path.
	Fetch(ctx context.Context, path string, limit int64) ([]byte, error)
}

// View is a log as one checkpoint describes it. Errors of its methods wrap the Source's,
// so that a caller can tell a network that is down from a log that lies.
type View struct {
	Checkpoint Checkpoint
	ctx        context.Context
	src        Source
	hashes     tlog.HashReader
	tiles      map[string][]byte
}

// At returns the log at a checkpoint, which the caller believes to be signed. The View is
// used up with ctx.
func At(ctx context.Context, src Source, c Checkpoint) *View {
	v := &View{Checkpoint: c, ctx: ctx, src: src, tiles: map[string][]byte{}}
	v.hashes = tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: tlog.Hash(c.Root)}, (*tileReader)(v))
	return v
}

// Includes checks that the entry with this leaf stands at index.
func (v *View) Includes(index int64, leaf release.Digest) error {
	if index < 0 || index >= v.Checkpoint.Size {
		return fmt.Errorf("entry %d: the log has %d", index, v.Checkpoint.Size)
	}
	got, err := v.read(tlog.StoredHashIndex(0, index))
	if err != nil {
		return fmt.Errorf("entry %d: %w", index, err)
	}
	if release.Digest(got) != leaf {
		return fmt.Errorf("entry %d: is another one", index)
	}
	return nil
}

func (v *View) read(index int64) (tlog.Hash, error) {
	list, err := v.hashes.ReadHashes([]int64{index})
	if err != nil {
		return tlog.Hash{}, err
	}
	return list[0], nil
}

// Find returns where the entry with this leaf stands, after checking it. A leaf that
// the log's index does not know is fs.ErrNotExist.
func (v *View) Find(leaf release.Digest) (int64, error) {
	b, err := v.src.Fetch(v.ctx, IndexPath(leaf), maxIndex)
	if err != nil {
		return 0, fmt.Errorf("index: %w", err)
	}
	text, ok := strings.CutSuffix(string(b), "\n")
	index, err := strconv.ParseInt(text, 10, 64)
	if err != nil || !ok || strconv.FormatInt(index, 10) != text {
		return 0, fmt.Errorf("index: got %.20q, want a number", b)
	}
	return index, v.Includes(index, leaf)
}

// Extends checks that everything that old committed to is still in this log, at its
// place.
func (v *View) Extends(old Checkpoint) error {
	switch {
	case old.Origin != v.Checkpoint.Origin:
		return fmt.Errorf("log %q does not extend log %q", v.Checkpoint.Origin, old.Origin)
	case old.Size > v.Checkpoint.Size:
		return fmt.Errorf("the log shrank: it had %d entries and has %d", old.Size, v.Checkpoint.Size)
	case old.Size == v.Checkpoint.Size && old.Root != v.Checkpoint.Root:
		return fmt.Errorf("the log forked: two different trees of %d entries were signed", old.Size)
	case old.Size == v.Checkpoint.Size, old.Size == 0:
		return nil
	}
	root, err := tlog.TreeHash(old.Size, v.hashes)
	if err != nil {
		return fmt.Errorf("from %d to %d entries: %w", old.Size, v.Checkpoint.Size, err)
	}
	if release.Digest(root) != old.Root {
		return fmt.Errorf("the log forked: its first %d entries are no longer what was signed", old.Size)
	}
	return nil
}

// Entries calls f for the entries from index from on, each checked against the tree.
func (v *View) Entries(from int64, f func(index int64, e Entry) error) error {
	for n := from / tileWidth; n*tileWidth < v.Checkpoint.Size; n++ {
		first := n * tileWidth
		width := min(v.Checkpoint.Size-first, tileWidth)
		b, err := v.fetch(tlog.Tile{H: tileHeight, L: -1, N: n, W: int(width)}, maxBundle)
		if err != nil {
			return fmt.Errorf("entries from %d: %w", first, err)
		}
		records, err := splitBundle(b, int(width))
		if err != nil {
			return fmt.Errorf("entries from %d: %w", first, err)
		}
		if err := v.bundle(first, records); err != nil {
			return err
		}
		for i, r := range records {
			index := first + int64(i)
			if index < from {
				continue
			}
			e, err := ParseEntry(r)
			if err != nil {
				return fmt.Errorf("entry %d: %w", index, err)
			}
			if err := f(index, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// bundle checks the records of one file of entries against the tree.
func (v *View) bundle(first int64, records [][]byte) error {
	indexes := make([]int64, len(records))
	for i := range records {
		indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
	}
	leaves, err := v.hashes.ReadHashes(indexes)
	if err != nil {
		return fmt.Errorf("entries from %d: %w", first, err)
	}
	for i, r := range records {
		if tlog.RecordHash(r) != leaves[i] {
			return fmt.Errorf("entry %d: is not what the tree holds", first+int64(i))
		}
	}
	return nil
}

// splitBundle takes a file of entries apart, each behind its length as a big-endian
// uint16. More than want are the rest of a full file, and are not looked at.
func splitBundle(b []byte, want int) ([][]byte, error) {
	list := make([][]byte, 0, want)
	for len(list) < want {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, fmt.Errorf("entry %d of the file: is cut off", len(list))
		}
		n := int(binary.BigEndian.Uint16(b))
		if n > maxEntry {
			return nil, fmt.Errorf("entry %d of the file: got %d bytes, want at most %d", len(list), n, maxEntry)
		}
		list = append(list, b[2:2+n])
		b = b[2+n:]
	}
	return list, nil
}

// fetch gets a tile, or the full tile that it is a part of, as C2SP has it: a publisher
// may remove partial tiles once there are full ones.
func (v *View) fetch(t tlog.Tile, limit int64) ([]byte, error) {
	path := tilePath(t)
	if b, ok := v.tiles[path]; ok {
		return b, nil
	}
	b, err := v.src.Fetch(v.ctx, path, limit)
	if errors.Is(err, fs.ErrNotExist) && t.W < tileWidth {
		full := t
		full.W = tileWidth
		if all, fullErr := v.src.Fetch(v.ctx, tilePath(full), limit); fullErr == nil {
			b, err = all, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: got %d bytes, want at most %d", path, len(b), limit)
	}
	v.tiles[path] = b
	return b, nil
}

// tileReader is a View as tlog reads it. tlog compares every tile with the tree's root
// before it uses it.
type tileReader View

func (r *tileReader) Height() int { return tileHeight }

func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	list := make([][]byte, len(tiles))
	for i, t := range tiles {
		b, err := (*View)(r).fetch(t, maxTile)
		if err != nil {
			return nil, err
		}
		want := t.W * tlog.HashSize
		if len(b) < want {
			return nil, fmt.Errorf("%s: got %d bytes, want %d", tilePath(t), len(b), want)
		}
		list[i] = b[:want]
	}
	return list, nil
}

func (r *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
