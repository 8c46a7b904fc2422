package ubootenv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
)

// MaxSize bounds an environment, in bytes.
const MaxSize = 1 << 20

// sumSize is the CRC in front.
const sumSize = 4

// Variables are the variables of an environment.
type Variables map[string]string

// Parse reads an environment; b is all of its area on the medium. flags is 0 unless it is
// redundant.
func Parse(b []byte, redundant bool) (v Variables, flags byte, err error) {
	head := headSize(redundant)
	if len(b) <= head || len(b) > MaxSize {
		return nil, 0, fmt.Errorf("U-Boot environment: got %d bytes, want %d to %d", len(b), head+1, MaxSize)
	}
	if got, want := crc32.ChecksumIEEE(b[head:]), binary.LittleEndian.Uint32(b); got != want {
		return nil, 0, fmt.Errorf("U-Boot environment: checksum: got %08x, want %08x", got, want)
	}
	if redundant {
		flags = b[sumSize]
	}
	v = Variables{}
	for rest := b[head:]; len(rest) > 0 && rest[0] != 0; {
		n := bytes.IndexByte(rest, 0)
		if n < 0 {
			return nil, 0, errors.New("U-Boot environment: the last variable has no end")
		}
		name, value, ok := strings.Cut(string(rest[:n]), "=")
		if !ok || name == "" {
			return nil, 0, fmt.Errorf("U-Boot environment: %.80q: want name=value", rest[:n])
		}
		v[name], rest = value, rest[n+1:]
	}
	return v, flags, nil
}

// Encode returns the size bytes of an environment, sorted by name, padded with zeros.
func (v Variables) Encode(size int, redundant bool, flags byte) ([]byte, error) {
	head := headSize(redundant)
	if size <= head || size > MaxSize {
		return nil, fmt.Errorf("U-Boot environment: size: got %d bytes, want %d to %d", size, head+1, MaxSize)
	}
	b := make([]byte, head, size)
	if redundant {
		b[sumSize] = flags
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(v[name], "\x00") {
			return nil, fmt.Errorf("U-Boot environment: variable %.80q cannot be stored", name)
		}
		b = append(b, name+"="+v[name]+"\x00"...)
	}
	if len(b)+1 > size { // an empty variable ends the list
		return nil, fmt.Errorf("U-Boot environment: got %d bytes, want at most %d", len(b)+1, size)
	}
	b = append(b, make([]byte, size-len(b))...)
	binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[head:]))
	return b, nil
}

func headSize(redundant bool) int {
	if redundant {
		return sumSize + 1
	}
	return sumSize
}
