package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 256 << 10

// Source is one configuration file.
type Source struct {
	Name string // for messages
	Data []byte
}

// Load reads the file at path and its drop-ins.
func Load(path string) (*Config, error) {
	main, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	sources := []Source{main}
	dir := filepath.Join(filepath.Dir(path), "conf.d")
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), ".toml") {
			continue
		}
		s, err := read(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		sources = append(sources, s)
	}
	c, err := Parse(sources...)
	if err != nil {
		return nil, err
	}
	if c.HostID == "" {
		// Without a machine id the host stays without an id, and doctor says so: the
		// way back must not depend on it.
		c.HostID, _ = machineHostID("/etc/machine-id")
	}
	return c, nil
}

func read(path string) (Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return Source{}, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return Source{}, err
	} else if !st.Mode().IsRegular() {
		return Source{}, fmt.Errorf("%s: is not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Source{}, err
	}
	return Source{path, b}, nil
}

// Parse reads the sources, of which later ones win, and checks the result. Its error
// holds one line for each thing that is wrong.
func Parse(sources ...Source) (*Config, error) {
	c := Default()
	p := &parser{config: c, set: map[string]place{}}
	for _, s := range sources {
		if len(s.Data) > maxFile {
			return nil, fmt.Errorf("%s: got more than %d bytes", s.Name, maxFile)
		}
		if err := p.source(s); err != nil {
			return nil, err
		}
	}
	if len(p.problems) == 0 {
		p.whole()
	}
	if len(p.problems) > 0 {
		sort.SliceStable(p.problems, func(i, j int) bool { return p.problems[i].before(p.problems[j]) })
		var errs []error
		for _, e := range p.problems {
			errs = append(errs, e)
		}
		return nil, errors.Join(errs...)
	}
	if c.Fleet == "" {
		c.Fleet = c.Channel
	}
	return c, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
