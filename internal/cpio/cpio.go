package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// What an archive is made of. An entry is a header of HeaderSize bytes, which begins with
// Magic, a name and a content; the last one is called End.
const (
	Magic      = "070701"
	HeaderSize = 110
	End        = "TRAILER!!!"
)

// The kinds of mode, as stat(2) has them.
const (
	Directory = 0o040000
	Regular   = 0o100000
)

// Archive is an archive on its way. Its zero value is empty.
type Archive struct {
	b     bytes.Buffer
	inode int
}

// Add appends a file or a directory; what is in a directory comes behind it. The mode has
// its kind.
func (a *Archive) Add(name string, mode uint32, content []byte) {
	a.inode++
	fmt.Fprintf(&a.b, Magic+"%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.b.WriteString(name + "\x00")
	a.pad()
	a.b.Write(content)
	a.pad()
}

// Bytes ends the archive and returns it.
func (a *Archive) Bytes() []byte {
	a.Add(End, 0, nil)
	return a.b.Bytes()
}

func (a *Archive) pad() { a.b.Write(make([]byte, -a.b.Len()&3)) }

// maxName bounds the name of an entry; the kernel takes no longer path.
const maxName = 4096

// Walk calls visit with the name of each entry of the archives that r, of size bytes, begins
// with. Between archives, and behind the last, there may be zeros. It returns where they end:
// at size, or where something else begins, such as an archive that is compressed.
func Walk(r io.ReaderAt, size int64, visit func(name string)) (end int64, err error) {
	for at := int64(0); ; {
		if at, err = skipZeros(r, at, size); err != nil {
			return 0, err
		}
		if !begins(r, at, size) {
			return at, nil
		}
		for last := false; !last; {
			var name string
			if name, at, err = entry(r, at, size); err != nil {
				return 0, err
			}
			if last = name == End; !last {
				visit(name)
			}
		}
	}
}

// begins reports whether an entry begins at a place.
func begins(r io.ReaderAt, at, size int64) bool {
	magic := make([]byte, len(Magic))
	if size-at < HeaderSize {
		return false
	}
	_, err := r.ReadAt(magic, at)
	return err == nil && string(magic) == Magic
}

// entry returns the name of the entry at a place, and where the next one begins.
func entry(r io.ReaderAt, at, size int64) (name string, next int64, err error) {
	if !begins(r, at, size) {
		return "", 0, fmt.Errorf("cpio archive: got no entry at byte %d", at)
	}
	var h [HeaderSize]byte
	if _, err := r.ReadAt(h[:], at); err != nil {
		return "", 0, fmt.Errorf("cpio archive: %w", err)
	}
	length, err := strconv.ParseUint(string(h[94:102]), 16, 32)
	content, err2 := strconv.ParseUint(string(h[54:62]), 16, 32)
	if err := errors.Join(err, err2); err != nil {
		return "", 0, fmt.Errorf("cpio archive: entry at byte %d: %w", at, err)
	}
	from := (at + HeaderSize + int64(length) + 3) &^ 3
	next = (from + int64(content) + 3) &^ 3
	if length == 0 || length > maxName || from > size || next > size+3 {
		return "", 0, fmt.Errorf("cpio archive: entry at byte %d ends at %d of %d", at, next, size)
	}
	b := make([]byte, length-1)
	if _, err := r.ReadAt(b, at+HeaderSize); err != nil {
		return "", 0, fmt.Errorf("cpio archive: %w", err)
	}
	return string(b), min(next, size), nil
}

// skipZeros returns where, from a place on, something else than zeros begins.
func skipZeros(r io.ReaderAt, at, size int64) (int64, error) {
	b := make([]byte, 4096)
	for at < size {
		b = b[:min(int64(len(b)), size-at)]
		if _, err := r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("cpio archive: %w", err)
		}
		rest := bytes.TrimLeft(b, "\x00")
		if at += int64(len(b) - len(rest)); len(rest) > 0 {
			break
		}
	}
	return at, nil
}
