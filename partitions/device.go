package partitions

import "io"

// Device is one partition of a slot. Offsets and lengths of every call are multiples
// of release.BlockSize (4096), so that an implementation may bypass the page cache;
// a call that reaches past Size is an error and moves no byte.
type Device interface {
	io.ReaderAt
	io.WriterAt
	// Flush returns once everything written so far survives a power cut. After an
	// error nothing written since the last good Flush may be relied upon.
	Flush() error
	// Size is the number of bytes that can be written.
	Size() int64
}

// OpenDevice is a Device that was opened and has to be closed.
type OpenDevice interface {
	Device
	io.Closer
}
