package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// groups mounts the control groups, of version 2 alone.
func groups() error {
	const dir = "/sys/fs/cgroup"
	if err := unix.Mount("cgroup2", dir, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("control groups: %w", err)
	}
	controllers, err := word(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	say("control groups: version 2 alone, with %s", controllers)
	return nil
}

// show prints small files, each line behind its file's name.
func show(patterns []string) {
	for _, p := range patterns {
		paths, err := filepath.Glob(p)
		if err != nil {
			say("show: %v", err)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				continue // of a group that is just going
			}
			for line := range strings.Lines(string(b)) {
				fmt.Printf("OUT %s %s\n", path, strings.TrimSpace(line))
			}
		}
	}
	say("ran 0")
}
