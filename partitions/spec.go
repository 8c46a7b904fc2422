package partitions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Resolve returns the path of the block device or regular file that spec names:
// PARTLABEL=x, PARTUUID=x, or a path, which is returned as it is.
//
// A label or UUID is taken from the links that udev keeps under /dev/disk. Where there
// is no such link (an initrd, a container, no udev) the partition tables of all disks
// are read, and a name that two partitions bear is refused.
func Resolve(spec string) (string, error) { return system.resolve(spec) }

// CheckSpec reports whether spec is well formed, without looking at any device.
func CheckSpec(spec string) error {
	_, _, err := splitSpec(spec)
	return err
}

// system is where a running Linux keeps its devices.
var system = host{dev: "/dev", sys: "/sys"}

// host is the place where devices are looked up; tests have their own.
type host struct {
	dev, sys string
}

// splitSpec returns the key (PARTLABEL, PARTUUID or "" for a path) and value of spec.
func splitSpec(spec string) (key, value string, err error) {
	for _, k := range []string{"PARTLABEL", "PARTUUID"} {
		if v, ok := strings.CutPrefix(spec, k+"="); ok {
			if v == "" || len(v) > 128 || strings.ContainsRune(v, 0) {
				return "", "", fmt.Errorf("partition %.80q: empty or too long", spec)
			}
			return k, v, nil
		}
	}
	switch {
	case spec == "" || len(spec) > 4096 || strings.ContainsRune(spec, 0):
		return "", "", fmt.Errorf("partition %.80q: empty or too long", spec)
	case !filepath.IsAbs(spec):
		return "", "", fmt.Errorf("partition %.80q: want PARTLABEL=, PARTUUID= or an absolute path", spec)
	}
	return "", spec, nil
}

func (h host) resolve(spec string) (string, error) {
	key, value, err := splitSpec(spec)
	if err != nil {
		return "", err
	}
	if key == "" {
		return value, nil
	}
	name := value
	if key == "PARTUUID" {
		name = strings.ToLower(name)
	}
	link := filepath.Join(h.dev, "disk/by-"+strings.ToLower(key), udevName(name))
	switch path, err := filepath.EvalSymlinks(link); {
	case err == nil:
		return path, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("partition %s: %w", spec, err)
	}
	return h.scan(spec, key, value)
}

// udevName encodes a label as udev names its links: everything outside of its safe set
// as \xHH. Bytes above 0x7f are kept, which is right for valid UTF-8; for anything else
// there is no link and the tables are read.
func udevName(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if alnum || c >= 0x80 || strings.IndexByte("#+-.:=@_", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// scan reads the partition tables of all disks.
func (h host) scan(spec, key, value string) (string, error) {
	disks, err := os.ReadDir(filepath.Join(h.sys, "block"))
	if err != nil {
		return "", fmt.Errorf("partition %s: %w", spec, err)
	}
	var found []string
	var unread []error
	for _, d := range disks {
		paths, err := h.scanDisk(d.Name(), key, value)
		if err != nil {
			unread = append(unread, fmt.Errorf("%s: %w", d.Name(), err))
		}
		found = append(found, paths...)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if len(unread) > 0 {
			return "", fmt.Errorf("partition %s: %w; not read: %w", spec, fs.ErrNotExist, errors.Join(unread...))
		}
		return "", fmt.Errorf("partition %s: %w on %d disks", spec, fs.ErrNotExist, len(disks))
	}
	sort.Strings(found)
	return "", fmt.Errorf("partition %s: more than one has this name: %s", spec, strings.Join(found, ", "))
}

// scanDisk returns the device paths of the partitions of one disk that match. A disk
// without medium or table has none.
func (h host) scanDisk(name, key, value string) ([]string, error) {
	dir := filepath.Join(h.sys, "block", name)
	if n, err := sysInt(filepath.Join(dir, "size")); err != nil || n == 0 {
		return nil, err
	}
	sector, err := sysInt(filepath.Join(dir, "queue/logical_block_size"))
	if err != nil {
		return nil, err
	}
	f, err := os.Open(h.devPath(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return nil, err
	}
	parts, err := ReadGPT(f, size, sector)
	if errors.Is(err, ErrNoTable) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, p := range parts {
		if !p.matches(key, value) {
			continue
		}
		node, err := h.node(dir, name, p)
		if err != nil {
			return paths, err
		}
		paths = append(paths, node)
	}
	return paths, nil
}

// node finds the kernel's device for p and checks that the kernel sees it at the same
// place: a table that was changed under a running kernel is not acted upon.
func (h host) node(dir, disk string, p Partition) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), disk) {
			continue
		}
		sub := filepath.Join(dir, e.Name())
		if n, err := sysInt(filepath.Join(sub, "partition")); err != nil || n != int64(p.Number) {
			continue
		}
		start, err := sysInt(filepath.Join(sub, "start"))
		if err != nil {
			return "", err
		}
		size, err := sysInt(filepath.Join(sub, "size"))
		if err != nil {
			return "", err
		}
		if start*512 != p.Start || size*512 != p.Size { // sysfs counts in 512 bytes on every disk
			return "", fmt.Errorf("partition %d: the kernel sees %d+%d, the table says %d+%d bytes",
				p.Number, start*512, size*512, p.Start, p.Size)
		}
		return h.devPath(e.Name()), nil
	}
	return "", fmt.Errorf("partition %d (%q) is in the table but unknown to the kernel", p.Number, p.Name)
}

// devPath turns a name of sysfs into a path: a slash within a name is a "!" there.
func (h host) devPath(name string) string {
	return filepath.Join(h.dev, strings.ReplaceAll(name, "!", "/"))
}

// sysInt reads a file of sysfs that holds one number.
func sysInt(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 54)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %.40q is not a count", path, b)
	}
	return n, nil
}
