package diff

import (
	"cmp"
	"errors"
	"io"
	"slices"

	"github.com/twinkeel/twinkeel/internal/erofs"
	"github.com/twinkeel/twinkeel/internal/ext4"
)

// file is a regular file of an image.
type file struct {
	path  string
	spans []span // of the image, in the file's order
}

// files returns the files of an image, or none if it has no file system that is known, or
// a damaged one: then it is bytes like any other.
func (i image) files() ([]file, error) {
	var list []file
	err := erofs.Walk(i, i.size, func(f erofs.File) error {
		list = append(list, file{path: f.Path})
		for _, e := range f.Extents {
			list[len(list)-1].add(e.Offset, e.Length)
		}
		return nil
	})
	if !errors.Is(err, erofs.ErrFormat) {
		return list, err
	}
	list = nil
	err = ext4.Walk(i, i.size, func(f ext4.File) error {
		list = append(list, file{path: f.Path})
		for _, e := range f.Extents {
			list[len(list)-1].add(e.Offset, e.Length)
		}
		return nil
	})
	if errors.Is(err, ext4.ErrFormat) {
		return nil, nil
	}
	return list, err
}

func (f *file) add(at, length int64) {
	if length > 0 {
		f.spans = append(f.spans, span{at, at + length})
	}
}

// within returns the parts of an image that the range r of f is, r.start and r.end being
// offsets in f.
func (f *file) within(r span) (list []span) {
	at := int64(0)
	for _, s := range f.spans {
		from, to := max(r.start-at, 0), min(r.end-at, s.end-s.start)
		if from < to {
			list = append(list, span{s.start + from, s.start + to})
		}
		at += s.end - s.start
	}
	return list
}

// claim is a span of a file; the lower ones of its file come before it.
type claim struct {
	span
	file, order int
}

// divide gives each of the gaps, in parts if need be, to the files they lie in: to each
// file what is its, in its order. The rest belongs to no file.
func divide(gaps []span, files []file) (own [][]span, rest []span) {
	var claims []claim
	for i, f := range files {
		for j, s := range f.spans {
			claims = append(claims, claim{s, i, j})
		}
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.file, b.file), cmp.Compare(a.order, b.order))
	})
	parts := make([][]claim, len(files))
	next := 0
	for _, g := range gaps {
		for g.start < g.end {
			for next < len(claims) && claims[next].end <= g.start {
				next++
			}
			if next == len(claims) || claims[next].start >= g.end {
				rest = append(rest, g)
				break
			}
			c := claims[next]
			if c.start > g.start {
				rest = append(rest, span{g.start, c.start})
				g.start = c.start
			}
			end := min(c.end, g.end)
			parts[c.file] = append(parts[c.file], claim{span{g.start, end}, c.file, c.order})
			g.start = end
		}
	}
	own = make([][]span, len(files))
	for i, list := range parts {
		slices.SortFunc(list, func(a, b claim) int { return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.start, b.start)) })
		for _, c := range list {
			own[i] = append(own[i], c.span)
		}
	}
	return own, rest
}

// fileReader reads a file of an image.
type fileReader struct {
	image image
	file  *file
}

// ReadAt reads what the file has from the offset at on.
func (r fileReader) ReadAt(b []byte, at int64) (n int, err error) {
	for _, s := range r.file.within(span{at, at + int64(len(b))}) {
		size := int(s.end - s.start)
		if err := r.image.read(b[n:n+size], s.start); err != nil {
			return n, err
		}
		n += size
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
