package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Finder finds runtimes on this host. It asks a program what it is once, and again when
// its file is another one. The zero Finder is ready.
type Finder struct {
	mu    sync.Mutex
	known map[string]known // by path
}

// known is what a program said, and the file that it was then.
type known struct {
	device, inode uint64
	size          int64
	changed       syscall.Timespec
	says          Runtime
}

// Find looks for a runtime of one of the kinds, the first one that there is: at path if
// that is not empty, else among the host's commands.
func (f *Finder) Find(ctx context.Context, kinds []Kind, path, state string) (Runtime, error) {
	var candidates []string
	for _, k := range kinds {
		candidates = append(candidates, string(k))
	}
	want := strings.Join(candidates, " or ")
	if path != "" {
		candidates = []string{path}
	}
	var problems []error
	for _, c := range candidates {
		full, err := exec.LookPath(c)
		if errors.Is(err, exec.ErrNotFound) {
			err = fmt.Errorf("%s: not found in %s", c, os.Getenv("PATH"))
		}
		var r Runtime
		if err == nil {
			r, err = f.ask(ctx, full)
		}
		if err == nil && !slices.Contains(kinds, r.Kind) {
			err = fmt.Errorf("%s --version: got %s, want %s", full, r.Kind, want)
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		r.State = state
		return r, nil
	}
	return Runtime{}, fmt.Errorf("%w: %w", ErrNone, errors.Join(problems...))
}

// ask returns what the program at a path is.
func (f *Finder) ask(ctx context.Context, path string) (Runtime, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Runtime{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Runtime{}, fmt.Errorf("%s: got %T, want what stat says", path, info.Sys())
	}
	file := known{device: st.Dev, inode: st.Ino, size: st.Size, changed: st.Ctim}
	f.mu.Lock()
	before := f.known[path]
	f.mu.Unlock()
	if before.says.Kind != "" && file.is(before) {
		return before.says, nil
	}
	if file.says, err = version(ctx, path); err != nil {
		return Runtime{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil {
		f.known = map[string]known{}
	}
	f.known[path] = file
	return file.says, nil
}

// is reports whether both are one file, unchanged.
func (k known) is(other known) bool {
	return k.device == other.device && k.inode == other.inode && k.size == other.size && k.changed == other.changed
}

// version asks a program.
func version(ctx context.Context, path string) (Runtime, error) {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return Runtime{}, fmt.Errorf("%s --version: %w", path, err)
	}
	line, _, _ := bytes.Cut(out, []byte{'\n'})
	words := strings.Fields(string(line))
	if len(words) < 3 || words[1] != "version" || len(words[2]) > 64 {
		return Runtime{}, fmt.Errorf("%s --version: got %.60q, want a name, version and a number", path, out)
	}
	r := Runtime{Path: path, Kind: Kind(words[0]), Version: words[2]}
	switch r.Kind {
	case Runsc:
		r.Options, r.Platform = sandboxOptions(ctx, path)
	case Crun, Runc:
	default:
		return Runtime{}, fmt.Errorf("%s --version: got %.60q, want %s, %s or %s", path, out, Crun, Runc, Runsc)
	}
	return r, nil
}
