package bootloader

import "io"

// Block is raw storage of a boot record: a partition, a file of fixed size, or, in
// bootloadertest, a disk whose power fails. Writes may reach the medium in any order
// and torn at any sector until Flush returns.
type Block interface {
	io.ReaderAt
	io.WriterAt
	Flush() error
}
