package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// On the data partition, below this directory, lie the layers over a root:
//
//	identity/           files of /etc that make the machine the one it is, for both slots
//	etc/ID/upper        what else was changed under /etc while the release ID ran
//	etc/standing        the ID that was committed and booted last
//	var/upper           /var, for both slots
//
// ID is the beginning of the root's verity root.
const layersDir = "twinkeel"

// identity lists the files and directories of /etc, as patterns, that are kept for both
// slots. What is changed of them takes effect in the other slot as soon as a committed
// slot was booted with it.
var identity = []string{
	"machine-id", "hostname", "localtime", "ssh/ssh_host_*", "twinkeel", "systemd/network",
	"NetworkManager/system-connections", "netplan", "network/interfaces", "network/interfaces.d",
}

// layers are the places on the data partition, or in memory if there is none that can be
// written.
type layers struct {
	dir      string // of all layers
	volatile bool   // dir is memory
	readable string // data partition that can only be read, or ""
}

// id names the layer of /etc that belongs to a root.
func (o Order) id() string { return o.Root.String()[:16] }

// etc returns the directories of /etc's overlay above the image's own: its upper layer
// and, below that, identity. On each boot of a trial the layer is made anew from that of
// the slot that stands: a trial that ended without a commit leaves nothing behind.
func (l layers) etc(o Order) (upper string, lower []string, err error) {
	id, home := filepath.Join(l.dir, "identity"), filepath.Join(l.dir, "etc")
	own := filepath.Join(home, o.id())
	if err := mkdirs(id, home); err != nil {
		return "", nil, err
	}
	if l.volatile {
		if l.readable != "" {
			id = filepath.Join(l.readable, layersDir, "identity")
		}
		return own, existing(id), mkdirs(own)
	}
	standing, err := os.ReadFile(filepath.Join(home, "standing"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", nil, err
	}
	switch _, err := os.Stat(own); {
	case o.Trial && string(standing) == o.id():
		// The same image once more, in the other slot: its layer is that of both.
	case o.Trial:
		if err := renew(own, filepath.Join(home, filepath.Base("/"+string(standing)))); err != nil {
			return "", nil, fmt.Errorf("layer of /etc: %w", err)
		}
	case errors.Is(err, os.ErrNotExist):
		if err := mkdirs(own); err != nil {
			return "", nil, err
		}
	case err != nil:
		return "", nil, err
	}
	if !o.Trial {
		if err := promote(filepath.Join(own, "upper"), id); err != nil {
			return "", nil, fmt.Errorf("identity: %w", err)
		}
		if string(standing) != o.id() {
			if err := replace(filepath.Join(home, "standing"), []byte(o.id())); err != nil {
				return "", nil, err
			}
		}
	}
	return own, []string{id}, nil
}

// renew makes the layer own a copy of the layer from, or an empty one if that is not
// there. What own held is kept as own.parked until the next time.
func renew(own, from string) error {
	parked, fresh := own+".parked", own+".new"
	if err := errors.Join(os.RemoveAll(parked), os.RemoveAll(fresh)); err != nil {
		return err
	}
	if err := mkdirs(fresh); err != nil {
		return err
	}
	src := filepath.Join(from, "upper")
	if _, err := os.Stat(src); err == nil && filepath.Base(from) != "/" {
		if err := copyTree(src, filepath.Join(fresh, "upper")); err != nil {
			return err
		}
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(own, parked); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := syncFS(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, own); err != nil {
		return err
	}
	return syncFS(own)
}

// promote moves what a layer holds of the machine's identity to where both slots see it.
func promote(upper, id string) error {
	moved := []string{}
	for _, pattern := range identity {
		paths, err := filepath.Glob(filepath.Join(upper, pattern))
		if err != nil {
			return err
		}
		for _, p := range paths {
			rel, err := filepath.Rel(upper, p)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Join(id, filepath.Dir(rel)), 0o755); err != nil {
				return err
			}
			if err := copyTree(p, filepath.Join(id, rel)); err != nil {
				return err
			}
			moved = append(moved, p)
		}
	}
	if len(moved) == 0 {
		return nil
	}
	if err := syncFS(id); err != nil {
		return err
	}
	for _, p := range moved {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

// overlay lays writable layers over a directory of the root. A root without the directory
// gets none.
func overlay(root, dir, own string, lower []string) error {
	at := filepath.Join(root, dir)
	if _, err := os.Stat(at); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	upper, work := filepath.Join(own, "upper"), filepath.Join(own, "work")
	if err := mkdirs(upper, work); err != nil {
		return err
	}
	below := ""
	for _, d := range lower {
		below += d + ":"
	}
	options := fmt.Sprintf("lowerdir=%s%s,upperdir=%s,workdir=%s", below, at, upper, work)
	if err := unix.Mount("overlay", at, "overlay", 0, options); err != nil {
		return fmt.Errorf("writable layer over %s: %w", dir, err)
	}
	return nil
}

// existing returns those of the directories that are there.
func existing(dirs ...string) (list []string) {
	for _, d := range dirs {
		if st, err := os.Stat(d); err == nil && st.IsDir() {
			list = append(list, d)
		}
	}
	return list
}

// mkdirs makes directories, with those above them.
func mkdirs(dirs ...string) error {
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return nil
}
