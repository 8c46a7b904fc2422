package durable

import (
	"errors"
	"fmt"
)

// MaxFile is the largest file that a Dir reads or writes, in bytes: state of a host is
// small, and a file that grew past this is damage, not data.
const MaxFile = 4 << 20

// ErrLocked is returned by Lock when another process holds the directory.
var ErrLocked = errors.New("in use by another process")

// Dir is a directory of small files with crash-safe replacement. The real one is
// OpenDir; the simulator has its own, whose effects can be cut apart.
type Dir interface {
	// Read returns the content of a file, or an error that is fs.ErrNotExist.
	Read(name string) ([]byte, error)
	// Replace makes data the content of a file; when it returns nil that is durable.
	// After an error the file holds the old or the new content, whole.
	Replace(name string, data []byte) error
	// Remove durably removes a file; a file that is not there is no error.
	Remove(name string) error
	// List returns the names of all files, sorted.
	List() ([]string, error)
	// Lock takes the directory, with all below it, for this caller, or returns
	// ErrLocked at once. Only who holds the lock calls Replace, here or in a Sub.
	Lock() (unlock func(), err error)
	// Sub returns a directory below this one, and makes it if need be.
	Sub(name string) (Dir, error)
}

// CheckFileName refuses names that are not one plain path element.
func CheckFileName(name string) error {
	if name == "" || len(name) > 200 || name == "." || name == ".." || name[0] == '.' {
		return fmt.Errorf("file name %.80q: empty, too long or beginning with a dot", name)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '/' || c < 0x20 || c == 0x7f {
			return fmt.Errorf("file name %.80q: character %d is a slash or a control character", name, i)
		}
	}
	return nil
}
