package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/internal/erofs"
	"github.com/twinkeel/twinkeel/internal/ext4"
)

// inspectedFile is what one file of the new image costs. A payload is not made of files,
// so its bytes are shared out: data by length, difference by how many bytes differ from
// those it is added to, instructions by their number.
type inspectedFile struct {
	Path  string  `json:"path"`  // empty: what lies in no file, such as inodes and directories
	Data  int64   `json:"data"`  // bytes of target
	Diff  int64   `json:"diff"`  // bytes of target, of those that differ
	Bytes float64 `json:"bytes"` // in the delta, by share
}

// extent is a part of a file in the new image.
type extent struct {
	start, end int64
	file       int
}

// shares gives the bytes of a delta to the files of the new image.
type shares struct {
	old, new io.ReaderAt
	files    []inspectedFile // the first is what lies in none
	extents  []extent        // sorted, without overlap
	decoder  decode.Decoder
	a, b     []byte
}

// newShares lists the files of the new image; a file that is no image known here is one
// file itself.
func newShares(old, new *input) (*shares, error) {
	s := &shares{old: deltas.Pad(old, old.size), new: deltas.Pad(new, new.size), files: []inspectedFile{{}},
		a: make([]byte, 256<<10), b: make([]byte, 256<<10)}
	add := func(path string, start, length int64) {
		if len(s.files) == 1 || s.files[len(s.files)-1].Path != path {
			s.files = append(s.files, inspectedFile{Path: path})
		}
		s.extents = append(s.extents, extent{start, start + length, len(s.files) - 1})
	}
	err := erofs.Walk(new, new.size, func(f erofs.File) error {
		for _, e := range f.Extents {
			add(f.Path, e.Offset, e.Length)
		}
		return nil
	})
	if errors.Is(err, erofs.ErrFormat) {
		err = ext4.Walk(new, new.size, func(f ext4.File) error {
			for _, e := range f.Extents {
				add(f.Path, e.Offset, e.Length)
			}
			return nil
		})
	}
	if errors.Is(err, ext4.ErrFormat) {
		add(new.Name(), 0, deltas.PaddedSize(new.size))
		err = nil
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(s.extents, func(x, y extent) int { return cmp.Compare(x.start, y.start) })
	// Files may share blocks: the first one has them.
	at := int64(0)
	for i := range s.extents {
		s.extents[i].start = max(s.extents[i].start, at)
		at = max(at, s.extents[i].end)
		s.extents[i].end = max(s.extents[i].end, s.extents[i].start)
	}
	return s, nil
}

// at returns the file that the byte at offset lies in, and how far that goes.
func (s *shares) at(offset int64) (file int, end int64) {
	i, _ := slices.BinarySearchFunc(s.extents, offset, func(e extent, at int64) int {
		if e.end <= at {
			return -1
		}
		return 1
	})
	if i == len(s.extents) {
		return 0, 1 << 62
	}
	if s.extents[i].start > offset {
		return 0, s.extents[i].start
	}
	return s.extents[i].file, s.extents[i].end
}

// add shares out one segment.
func (s *shares) add(payload []byte, seg deltas.Segment) error {
	list, err := s.decoder.List(payload, seg)
	if err != nil {
		return err
	}
	streams, err := deltas.ParsePayload(payload)
	if err != nil {
		return err
	}
	type part struct{ data, diff, steps int64 }
	parts := map[int]part{}
	var all part
	at := seg.Offset
	for _, in := range list {
		for left := in; left.Length > 0; {
			file, end := s.at(at)
			n := min(left.Length, end-at)
			p := parts[file]
			switch in.Op {
			case deltas.OpData:
				p.data += n
				all.data += n
			case deltas.OpDiff:
				d, err := s.differing(left.Offset, at, n)
				if err != nil {
					return err
				}
				p.diff += d
				all.diff += d
			}
			p.steps++
			all.steps++
			parts[file] = p
			left.Offset, left.Length, at = left.Offset+n, left.Length-n, at+n
		}
	}
	size := func(id deltas.StreamID) float64 { return float64(len(streams[id].Body)) }
	for file, p := range parts {
		f := &s.files[file]
		f.Data, f.Diff = f.Data+p.data, f.Diff+p.diff
		f.Bytes += share(size(deltas.StreamData), p.data, all.data) +
			share(size(deltas.StreamModes)+size(deltas.StreamDifference), p.diff, all.diff) +
			share(size(deltas.StreamOps), p.steps, all.steps)
	}
	return nil
}

func share(of float64, part, all int64) float64 {
	if all == 0 {
		return 0
	}
	return of * float64(part) / float64(all)
}

// differing counts the bytes that differ between n bytes of old and of new.
func (s *shares) differing(old, new, n int64) (count int64, err error) {
	for n > 0 {
		k := min(n, int64(len(s.a)))
		if m, err := s.old.ReadAt(s.a[:k], old); int64(m) < k {
			return 0, fmt.Errorf("old: read at %d: %w", old+int64(m), err)
		}
		if m, err := s.new.ReadAt(s.b[:k], new); int64(m) < k {
			return 0, fmt.Errorf("new: read at %d: %w", new+int64(m), err)
		}
		for i := range k {
			if s.a[i] != s.b[i] {
				count++
			}
		}
		old, new, n = old+k, new+k, n-k
	}
	return count, nil
}

// costly returns the files that cost something, the dearest first.
func (s *shares) costly() []inspectedFile {
	list := slices.DeleteFunc(slices.Clone(s.files), func(f inspectedFile) bool { return f.Bytes < 0.5 })
	slices.SortStableFunc(list, func(x, y inspectedFile) int {
		return cmp.Or(cmp.Compare(y.Bytes, x.Bytes), cmp.Compare(x.Path, y.Path))
	})
	return list
}

// shownFiles is how many files the table has; JSON has all.
const shownFiles = 20

func (r *inspection) printFiles(t *terminal) {
	const row = "%12v %12v %12v  %s"
	t.say("")
	t.say(row, "of delta", "data", "differs", "file")
	for i, f := range r.Files {
		if i == shownFiles {
			t.say("%12s %12s %12s  and %d more", "", "", "", len(r.Files)-i)
			break
		}
		name := f.Path
		if name == "" {
			name = "(in no file: inodes, directories)"
		}
		t.say(row, fmt.Sprintf("%.0f", f.Bytes), f.Data, f.Diff, name)
	}
}
