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
	for range 500 {
		if _, err := os.Stat("/dev/vda"); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := unix.Mount("/dev/vda", "/app", "ext4", 0, "prjquota"); err != nil {
		return fmt.Errorf("mount with prjquota: %w", err)
	}
	for _, dir := range []string{"/app/limited/below", "/app/other"} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	if err := errors.Join(os.WriteFile("/app/limited/below/before", make([]byte, limit/2), 0o644),
		os.Chmod("/app/limited/below", 0o777), os.Chmod("/app/other", 0o777)); err != nil {
		return err
	}
	for range 2 { // a second time it is as it was
		if err := quota.Limit("/app/limited", limit); err != nil {
			return err
		}
	}
	if err := quota.Limit("/proc", limit); !errors.Is(err, quota.ErrNone) {
		return fmt.Errorf("a file system without quotas: got %v", err)
	}
	if err := syscall.Setuid(1000); err != nil {
		return err
	}
	n, err := fill("/app/limited/below/after")
	fmt.Println("LIMITED", n, err)
	n, err = fill("/app/other/file")
	fmt.Println("OTHER", n, err)
	used, err := quota.Measure(context.Background(), "/app/limited")
	fmt.Println("MEASURED", used, err)
	return nil
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
