package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/twinkeel/twinkeel/deltas/bsdiff40"
)

// input is a regular file or a block device whose size was taken when it was opened.
type input struct {
	*os.File
	size int64
}

func openInput(path string) (*input, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	var size int64
	switch {
	case err != nil:
	case st.Mode().IsRegular():
		size = st.Size()
	case st.Mode().Type() == fs.ModeDevice:
		size, err = f.Seek(0, io.SeekEnd)
	default:
		err = fmt.Errorf("%s: is not a file or a block device", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &input{f, size}, nil
}

// isPatch reports whether the file is a BSDIFF40 patch.
func (i *input) isPatch() bool {
	var b [len(bsdiff40.Magic)]byte
	n, _ := i.ReadAt(b[:], 0)
	return string(b[:n]) == bsdiff40.Magic
}

// writeOutput makes path the file that write wrote. Until that is complete and on disk
// path is as it was; after an error nothing is left behind.
func writeOutput(path string, write func(*os.File) error) (err error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return fmt.Errorf("%s: is not a regular file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// stepProgress returns a function that shows how far the step called name has come.
func (t *terminal) stepProgress(name string) func(done, total int64) {
	return func(done, total int64) { t.progress(name, done, total) }
}
