package main

import "os"

// edit changes a part of the disk of a machine that is off.
func (h *host) edit(at, size int64, change func([]byte) error) error {
	f, err := os.OpenFile(h.c.Disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, size)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	if err := change(b); err != nil {
		return err
	}
	if _, err := f.WriteAt(b, at); err != nil {
		return err
	}
	return f.Close()
}

// part returns a part of the disk.
func (h *host) part(at, size int64) ([]byte, error) {
	f, err := os.Open(h.c.Disk)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, size)
	_, err = f.ReadAt(b, at)
	return b, err
}

// swap puts content, or zeros, in the place of a part of the disk, and returns what was
// there.
func (h *host) swap(at, size int64, content []byte) (was []byte, err error) {
	err = h.edit(at, size, func(b []byte) error {
		was = append(was, b...)
		clear(b)
		copy(b, content)
		return nil
	})
	return was, err
}
