package data_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/data"
)

// BenchmarkSnapshot clones 645 MB in 4,000 files, as before an update, on file systems of
// its own over loop devices. It reports the processor time of this process, the kernel's
// work for it included, and what a check beforehand takes of it.
func BenchmarkSnapshot(b *testing.B) {
	for _, fs := range []string{"xfs", "btrfs"} {
		b.Run(fs, func(b *testing.B) {
			d := mounted(b, fs)
			fill(b, filepath.Join(d, "web", "gen", "g0", "db"), 4000, 645e6)
			volumes, err := data.Open(d)
			if err != nil {
				b.Fatal(err)
			}
			var check, clone time.Duration
			for n := 0; b.Loop(); n++ {
				start := processor(b)
				if err := volumes.CheckClone(context.Background(), time.Minute, workloads.Origin{App: "web", Generation: "g0"}); err != nil {
					b.Fatal(err)
				}
				middle := processor(b)
				if err := volumes.Clone(context.Background(), "web", "g0", fmt.Sprintf("g%d", n+1)); err != nil {
					b.Fatal(err)
				}
				check, clone = check+middle-start, clone+processor(b)-middle
			}
			b.ReportMetric(check.Seconds()/float64(b.N), "check-cpu-s")
			b.ReportMetric(clone.Seconds()/float64(b.N), "clone-cpu-s")
		})
	}
}

// mounted makes a file system and mounts it.
func mounted(b testing.TB, fs string) string {
	b.Helper()
	base, err := os.MkdirTemp("/var/tmp", "twinkeel-snapshot-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(base) })
	dir := filepath.Join(base, "mnt")
	needs.Mounted(b, fs, "3G", filepath.Join(base, "disk"), dir)
	return dir
}

func fill(b *testing.B, dir string, files int, bytes int64) {
	b.Helper()
	content := make([]byte, bytes/int64(files))
	for n := range files {
		name := filepath.Join(dir, fmt.Sprintf("%02d", n%100), fmt.Sprint(n))
		content[n%len(content)]++
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if err == nil {
			err = os.WriteFile(name, content, 0o644)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	unix.Sync()
}

func processor(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
