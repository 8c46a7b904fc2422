package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twinkeel/twinkeel/workloads/stray"
)

// groups is where the hierarchies are mounted, unified version 2 if it is beside version 1.
const (
	groups  = "/sys/fs/cgroup"
	unified = groups + "/unified"
)

// Hierarchy is how this host divides control groups.
type Hierarchy struct {
	Unified bool // version 2 alone
	Swap    bool // swap is accounted for
	roots   []string
}

// Groups finds out about this host.
func Groups() Hierarchy {
	if _, err := os.Stat(filepath.Join(groups, "cgroup.controllers")); err == nil {
		return Hierarchy{Unified: true, Swap: true, roots: []string{groups}}
	}
	h := Hierarchy{}
	entries, err := os.ReadDir(groups)
	if err != nil {
		return h
	}
	for _, e := range entries {
		if e.IsDir() { // not the second names of joined controllers, which are links
			h.roots = append(h.roots, filepath.Join(groups, e.Name()))
		}
	}
	_, err = os.Stat(filepath.Join(groups, "memory", "memory.memsw.limit_in_bytes"))
	h.Swap = err == nil
	return h
}

// Without is h less the hierarchy that is mounted at dir.
func (h Hierarchy) Without(dir string) Hierarchy {
	h.roots = slices.DeleteFunc(slices.Clone(h.roots), func(r string) bool { return r == dir })
	return h
}

// Join puts this process into the group at path, absolute, so that whoever ends or limits
// the group that it came from does not do so to it: in every hierarchy in which it came from
// any, and in one at least, by which it is found. A group takes the kernel long to make.
func (h Hierarchy) Join(path string) error {
	var joined int
	var problems []error
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("join control group %s: %w", path, err)
	}
	for _, root := range toJoin(h.roots, b) {
		dir := filepath.Join(root, path)
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = inherit(root, path)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		joined++
	}
	if joined == 0 {
		return fmt.Errorf("join control group %s: %w", path, errors.Join(problems...))
	}
	return nil
}

// toJoin are those of the hierarchies at roots that a process has to join to be in a group of
// its own, by the text of its /proc/PID/cgroup.
func toJoin(roots []string, text []byte) []string {
	list := slices.DeleteFunc(slices.Clone(roots), func(r string) bool { return within(text, filepath.Base(r)) == "/" })
	if len(list) > 0 || len(roots) == 0 {
		return list
	}
	// systemd's own takes the least time: it counts nothing.
	at := max(0, slices.IndexFunc(roots, func(r string) bool { return filepath.Base(r) == "systemd" }))
	return roots[at : at+1]
}

// within is the group of a process, by the text of its /proc/PID/cgroup, in the hierarchy that
// is mounted at a directory of this name; empty: not known. Version 2 is unified, or the only
// one.
func within(text []byte, name string) string {
	for line := range strings.Lines(string(text)) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		switch strings.TrimPrefix(controllers, "name=") {
		case name:
			return path
		case "":
			if name == filepath.Base(unified) {
				return path
			}
		}
	}
	return ""
}

// inherit gives a new group of processors and memory nodes those of its parents: in
// version 1 it begins without any, and takes no process.
func inherit(root, path string) error {
	if filepath.Base(root) != "cpuset" {
		return nil
	}
	at := root
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			b, err := os.ReadFile(filepath.Join(at, file))
			if err == nil {
				err = os.WriteFile(filepath.Join(at, name, file), b, 0)
			}
			if err != nil {
				return err
			}
		}
		at = filepath.Join(at, name)
	}
	return nil
}

// Members are the processes in the group at path and below it, in any hierarchy.
func (h Hierarchy) Members(path string) []int {
	var pids []int
	for _, dir := range h.directories(path) {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue // removed while we look
		}
		for field := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// directories are those of the group at path and of what lies below it, parents first.
func (h Hierarchy) directories(path string) []string {
	var dirs []string
	for _, root := range h.roots {
		_ = filepath.WalkDir(filepath.Join(root, path), func(dir string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, dir)
			}
			return nil
		})
	}
	return dirs
}

// Kill ends every process in the group at path, waits until they are gone, and removes
// the group. A group that is not there is no error.
func (h Hierarchy) Kill(ctx context.Context, path string) error {
	for {
		for _, root := range h.roots { // frozen processes cannot die
			_ = os.WriteFile(filepath.Join(root, path, "freezer.state"), []byte("THAWED"), 0)
		}
		pids := h.Members(path)
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(pids) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end control group %s: %d processes are left: %w", path, len(pids), ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	dirs := h.directories(path)
	slices.Reverse(dirs)
	for _, dir := range dirs {
		_ = syscall.Rmdir(dir) // one that is still in use is left
	}
	return nil
}

// KillMarked ends the processes in the group at path that have a variable, NAME=value, in
// their environment; see stray.End. What hides its environment counts against the group's
// limits.
func (h Hierarchy) KillMarked(path, variable string) {
	stray.End(func() []int { return h.Members(path) }, variable)
}
