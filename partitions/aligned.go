package partitions

import "unsafe"

// alignment is that of offsets, lengths and memory in every read and write that
// bypasses the page cache: release.BlockSize, which is a multiple of every logical
// sector size in use (512, 4096).
const alignment = 4096

// AlignedBuffer returns n bytes of memory that a Device can move without a copy.
// Slices of it at multiples of 4096 keep that property.
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+alignment)
	skip := 0
	if r := int(uintptr(unsafe.Pointer(&b[0])) % alignment); r != 0 {
		skip = alignment - r
	}
	return b[skip : skip+n : skip+n]
}

// isAligned reports whether p can be handed to the kernel as it is.
func isAligned(p []byte) bool {
	return len(p) == 0 || uintptr(unsafe.Pointer(&p[0]))%alignment == 0
}
