package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads/data"
	"github.com/twinkeel/twinkeel/workloads/quota"
)

// limit is that of the limited directory.
const limit = 1 << 20

func main() {
	if err := run(); err != nil {
		fmt.Println("FAILED", err)
	}
	fmt.Println("END")
	time.Sleep(100 * time.Millisecond) // for the console; then the kernel panics, and the machine ends
}

// kinds are the file systems that are tried, by the disks that they are on.
var kinds = map[string]string{"ext4": "/dev/vda", "xfs": "/dev/vdb"}

func run() error {
	for dir, kind := range map[string]string{"/proc": "proc", "/dev": "devtmpfs"} {
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	modules, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	for _, m := range modules {
		f, err := os.Open(m)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
	}
	made := map[string]*volumes{}
	for kind, disk := range kinds {
		for range 500 {
			if _, err := os.Stat(disk); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if made[kind], err = prepare(kind, disk); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	if err := quota.Limit("/proc", limit); !errors.Is(err, quota.ErrNone) {
		return fmt.Errorf("a file system without quotas: got %v", err)
	}
	if err := syscall.Setuid(1000); err != nil {
		return err
	}
	for kind, v := range made {
		for word, dir := range map[string]string{"LIMITED": v.first, "CLONED": v.clone, "OTHER": v.other} {
			n, err := fill(filepath.Join(dir, "below", "after"))
			fmt.Println(kind, word, n, err)
		}
		used, err := quota.Measure(context.Background(), v.first)
		fmt.Println(kind, "MEASURED", used, err)
	}
	return nil
}

// volumes are directories of an application: in a generation that is limited, in a clone
// of it, and one that is not limited.
type volumes struct{ first, clone, other string }

// prepare mounts a disk, and makes and limits what is on it.
func prepare(kind, disk string) (*volumes, error) {
	at := "/app/" + kind
	if err := os.MkdirAll(at, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount(disk, at, kind, 0, "prjquota"); err != nil {
		return nil, fmt.Errorf("mount with prjquota: %w", err)
	}
	d, err := data.Open(at)
	if err != nil {
		return nil, err
	}
	generation := func(from, to string) (map[string]string, error) {
		if err := d.Clone(context.Background(), "web", from, to); err != nil {
			return nil, err
		}
		return d.Volumes("web", to, &release.AppManifest{Name: "web", Run: release.AppRun{UID: 1000, GID: 1000}, Data: []release.AppVolume{
			{Name: "other", Class: "cache"}, {Name: "db", Class: "versioned"},
		}})
	}
	one, err := generation("", "g1")
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{one["db"], one["other"]} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, "below"), 0o777), os.Chown(filepath.Join(dir, "below"), 1000, 1000)); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(one["db"], "below", "before"), make([]byte, limit/2), 0o644); err != nil {
		return nil, err
	}
	for range 2 { // a second time it is as it was
		if err := quota.Limit(one["db"], limit); err != nil {
			return nil, err
		}
	}
	two, err := generation("g1", "g2")
	if err == nil {
		err = quota.Limit(two["db"], limit)
	}
	return &volumes{one["db"], two["db"], one["other"]}, err
}

// fill writes four times the limit, or until there is an error.
func fill(path string) (int, error) {
	f, err := os.Create(path)
	n := 0
	for err == nil && n < 4*limit {
		var m int
		m, err = f.Write(make([]byte, 4096))
		n += m
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return n, errno
	}
	return n, err
}
