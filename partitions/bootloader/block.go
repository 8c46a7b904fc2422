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

// ReadBlock is b.ReadAt, once more if that fails: the loader may have been able to read it,
// and the record that counts is the one that the loader goes by. The other copy may be older,
// or of a Store that never ended.
func ReadBlock(b Block, p []byte, off int64) (int, error) {
	n, err := b.ReadAt(p, off)
	if err != nil && err != io.EOF {
		n, err = b.ReadAt(p, off)
	}
	return n, err
}
