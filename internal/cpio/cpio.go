package cpio

import (
	"bytes"
	"fmt"
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
