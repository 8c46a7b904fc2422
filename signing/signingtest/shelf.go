package signingtest

import (
	"maps"
	"sync"
)

// shelf holds a repository's files. A server may read it while a test changes it.
type shelf struct {
	mu    sync.Mutex
	files map[string][]byte
}

func newShelf(files map[string][]byte) *shelf {
	s := &shelf{}
	s.set(files)
	return s
}

// get returns the file itself, or nil.
func (s *shelf) get(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[path]
}

// put places a file; nil removes it.
func (s *shelf) put(path string, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[path] = b; b == nil {
		delete(s.files, path)
	}
}

func (s *shelf) all() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.files)
}

func (s *shelf) set(files map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files = maps.Clone(files); s.files == nil {
		s.files = map[string][]byte{}
	}
}
