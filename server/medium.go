package server

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// medium is everything that this package does to a disk when it publishes, so that tests
// can stop a run at each of these effects.
type medium interface {
	// Create makes a new file; it is an error if it exists.
	Create(path string, mode fs.FileMode) (spool, error)
	Rename(from, to string) error
	Remove(path string) error
	Mkdir(path string, mode fs.FileMode) error
	// SyncDir makes the entries of a directory durable.
	SyncDir(path string) error
}

// spool is a file under construction.
type spool interface {
	io.Writer
	io.ReaderAt
	Sync() error
	Close() error
}

// osMedium is the real medium.
type osMedium struct{}

func (osMedium) Create(path string, mode fs.FileMode) (spool, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	// What is served must be readable by the server's user whatever umask publishes.
	if err := f.Chmod(mode); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (osMedium) Rename(from, to string) error { return os.Rename(from, to) }
func (osMedium) Remove(path string) error     { return os.Remove(path) }

func (osMedium) Mkdir(path string, mode fs.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func (osMedium) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", path, err)
	}
	return nil
}
