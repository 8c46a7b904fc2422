package efivars

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Dir is where efivarfs is mounted.
const Dir = "/sys/firmware/efi/efivars"

// Store is a mounted efivarfs.
type Store string

func (s Store) path(name, guid string) string { return filepath.Join(string(s), name+"-"+guid) }

// Read returns a variable; one that is not there is fs.ErrNotExist.
func (s Store) Read(name, guid string) (Variable, error) {
	f, err := os.Open(s.path(name, guid))
	if err != nil {
		return Variable{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return Variable{}, fmt.Errorf("UEFI variable %s: %w", name, err)
	}
	v, err := Parse(b)
	if err != nil {
		return Variable{}, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// Write makes or replaces a variable, in one write: the firmware stores it, or keeps the
// old one.
func (s Store) Write(name, guid string, v Variable) error {
	path := s.path(name, guid)
	if err := unprotect(path); err != nil {
		return fmt.Errorf("UEFI variable %s: %w", name, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	b := v.Encode()
	n, err := f.Write(b)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("UEFI variable %s: %w", name, err)
	}
	return nil
}

// Next makes the firmware start entry n once, at the next boot.
func (s Store) Next(n uint16) error {
	if _, err := s.Read(EntryName(n), Global); err != nil {
		return fmt.Errorf("UEFI boot entry: %w", err)
	}
	return s.Write("BootNext", Global, Variable{NonVolatile | BootService | Runtime, EncodeOrder(n)})
}

// First puts entry n at the front of the boot order; the others keep theirs.
func (s Store) First(n uint16) error {
	if _, err := s.Read(EntryName(n), Global); err != nil {
		return fmt.Errorf("UEFI boot entry: %w", err)
	}
	v, err := s.Read("BootOrder", Global)
	if errors.Is(err, os.ErrNotExist) {
		v, err = Variable{Attributes: NonVolatile | BootService | Runtime}, nil
	}
	if err != nil {
		return err
	}
	was, err := ParseOrder(v.Value)
	if err != nil {
		return err
	}
	order := []uint16{n}
	for _, o := range was {
		if o != n {
			order = append(order, o)
		}
	}
	v.Value = EncodeOrder(order...)
	return s.Write("BootOrder", Global, v)
}

// unprotect takes the immutable flag from a variable, which efivarfs gives to all that a
// machine may not start without.
func unprotect(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) || err == nil && flags&immutable == 0 {
		return nil // a file system without such flags, or none is set
	}
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable)
}

// immutable is the flag FS_IMMUTABLE_FL of linux/fs.h.
const immutable = 0x10
