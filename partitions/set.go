package partitions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
)

// Set opens the images of both slots.
type Set struct {
	specs   map[Slot]map[string]string
	running func() (Slot, error)
}

// NewSet returns the set of the given specs, by slot and image. Both slots have the
// same images. running says which slot runs; it is asked at each OpenWrite.
func NewSet(specs map[Slot]map[string]string, running func() (Slot, error)) (*Set, error) {
	s := &Set{specs: map[Slot]map[string]string{}, running: running}
	users := map[string]string{}
	for _, slot := range Slots {
		images := specs[slot]
		if len(images) == 0 {
			return nil, fmt.Errorf("slot %s: has no partitions", slot)
		}
		own := map[string]string{}
		for image, spec := range images {
			if err := CheckSpec(spec); err != nil {
				return nil, fmt.Errorf("slot %s: image %s: %w", slot, image, err)
			}
			if _, ok := specs[slot.Other()][image]; !ok {
				return nil, fmt.Errorf("slot %s: image %s: slot %s has none of that name", slot, image, slot.Other())
			}
			user := slot.String() + "/" + image
			if other, ok := users[spec]; ok {
				return nil, fmt.Errorf("slot %s: image %s: %s also belongs to %s", slot, image, spec, other)
			}
			users[spec], own[image] = user, spec
		}
		s.specs[slot] = own
	}
	return s, nil
}

// Images returns the names of a slot's images, sorted.
func (s *Set) Images() []string {
	var names []string
	for image := range s.specs[A] {
		names = append(names, image)
	}
	sort.Strings(names)
	return names
}

// OpenRead opens an image of a slot for reading past the page cache. What it returns
// is a ReadDevice.
func (s *Set) OpenRead(slot Slot, image string) (OpenDevice, error) {
	path, err := s.path(slot, image)
	if err != nil {
		return nil, err
	}
	d, err := OpenRead(path)
	if err != nil {
		return nil, fmt.Errorf("slot %s: image %s: %w", slot, image, err)
	}
	return d, nil
}

// OpenWrite opens an image of the slot that does not run, exclusively. It refuses a
// device that is also an image of the running slot, by whatever name.
func (s *Set) OpenWrite(slot Slot, image string) (OpenDevice, error) {
	running, err := s.running()
	if err != nil {
		return nil, fmt.Errorf("slot %s: image %s: which slot runs is unknown: %w", slot, image, err)
	}
	if slot != running.Other() {
		return nil, fmt.Errorf("slot %s: image %s: the running slot is never written", slot, image)
	}
	path, err := s.path(slot, image)
	if err != nil {
		return nil, err
	}
	if err := s.distinct(path, running); err != nil {
		return nil, fmt.Errorf("slot %s: image %s: %w", slot, image, err)
	}
	d, err := OpenWrite(path)
	if err != nil {
		return nil, fmt.Errorf("slot %s: image %s: %w", slot, image, err)
	}
	return d, nil
}

// path resolves the spec of an image.
func (s *Set) path(slot Slot, image string) (string, error) {
	spec, ok := s.specs[slot][image]
	if !ok {
		return "", fmt.Errorf("slot %s: image %.80q: no partition is configured for it", slot, image)
	}
	path, err := Resolve(spec)
	if err != nil {
		return "", fmt.Errorf("slot %s: image %s: %w", slot, image, err)
	}
	return path, nil
}

// distinct refuses path if it is an image of the running slot: two links, or a label
// and a path, can lead to one device.
func (s *Set) distinct(path string, running Slot) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	for _, image := range s.Images() {
		other, err := s.path(running, image)
		var so os.FileInfo
		if err == nil {
			so, err = os.Stat(other)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist): // then it is not the one that was found
		case err != nil:
			return err
		case sameDevice(st, so):
			return fmt.Errorf("%s is also image %s of the running slot", path, image)
		}
	}
	return nil
}
