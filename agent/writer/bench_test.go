package writer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/fetcher/child"
	"github.com/twinkeel/twinkeel/internal/machine"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// TestMain lets this binary be the unprivileged process too, as twinkeeld is, and a
// writer that can be killed.
func TestMain(m *testing.M) {
	campaignMain(os.Args[1:])
	if len(os.Args) > 1 && os.Args[1] == "fetcher" {
		if err := child.Main(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// cpu returns the CPU time, user and system, of this process and its ended children.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			tb.Fatal(err)
		}
		sum += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return sum
}

// BenchmarkUpdateCPU stages one update by delta with the real writer and the real,
// separate fetcher process, up to the armed trial, and compares the CPU time of both
// with the least that any updater can do for the same bytes: read, write and SHA-256
// once, then read and SHA-256 again. 448 MiB, the size of a Debian server image, of which 1 in 64 blocks changed.
func BenchmarkUpdateCPU(b *testing.B) {
	const size = 448 << 20
	image := sim.Image(size, 1)
	next := append([]byte(nil), image...)
	for i := 0; i < size; i += 64 * 4096 {
		copy(next[i:i+4096], sim.Image(4096, uint64(i+2)))
	}
	p, err := sim.NewPublisher(b.TempDir(), time.Now().AddDate(1, 0, 0))
	if err != nil {
		b.Fatal(err)
	}
	first, err := p.Release(sim.Spec{Version: "1", Images: map[string][]byte{"root": image}})
	if err != nil {
		b.Fatal(err)
	}
	second, err := p.Release(sim.Spec{Version: "2", Images: map[string][]byte{"root": next}, From: []*sim.Release{first}})
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Direct(second, nil); err != nil {
		b.Fatal(err)
	}
	files := p.Files()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, ok := files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(content)))
	}))
	defer server.Close()
	manifest, err := first.Manifest.Encode()
	if err != nil {
		b.Fatal(err)
	}
	var ours, floor time.Duration
	for range b.N {
		dir := b.TempDir()
		ours += updateCPU(b, dir, server.URL, p.Root(), manifest, image)
		floor += floorCPU(b, filepath.Join(dir, "b"), filepath.Join(dir, "plain"), size)
	}
	b.ReportMetric(ours.Seconds()/float64(b.N), "cpu-s/update")
	b.ReportMetric(floor.Seconds()/float64(b.N), "cpu-s/floor")
	b.ReportMetric(ours.Seconds()/floor.Seconds(), "×floor")
}

func updateCPU(b *testing.B, dir, url string, root, manifest, image []byte) time.Duration {
	b.Helper()
	c := hostIn(b, dir)
	c.Server, c.Compatible = url, sim.Compatible
	c.Boot.Reboot = []string{"true"}
	for _, slot := range partitions.Slots {
		if err := os.WriteFile(c.Slots[slot]["root"], make([]byte, len(image)+len(image)/100+1<<20), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	factory := filepath.Join(dir, "factory.img")
	if err := os.WriteFile(factory, image, 0o600); err != nil {
		b.Fatal(err)
	}
	m, err := release.DecodeManifest(manifest)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := machine.WriteImage(c.Slots[partitions.A]["root"], factory, m.Images[0].Salt); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(c.Root, root, 0o600); err != nil {
		b.Fatal(err)
	}
	record(b, c)
	w, err := Open(c, slog.New(slog.DiscardHandler), true)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.Do(b.Context(), agent.Request{Verb: agent.VerbInit, Factory: manifest}, nil); err != nil {
		b.Fatal(err)
	}
	before := cpu(b)
	if _, err := w.Do(b.Context(), agent.Request{Verb: agent.VerbUpdate, NoReboot: true}, nil); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return cpu(b) - before
}

// floorCPU copies size bytes from one file to another in chunks of 512 KiB, hashing
// them, flushes, and reads the copy again, hashing. Both files bypass the page cache, as
// slots do.
func floorCPU(b *testing.B, from, to string, size int64) time.Duration {
	b.Helper()
	if err := os.WriteFile(to, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	src, err := partitions.OpenRead(from)
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	dst, err := partitions.OpenWrite(to)
	if err != nil {
		b.Fatal(err)
	}
	defer dst.Close()
	buf := partitions.AlignedBuffer(512 << 10)
	before := cpu(b)
	h := sha256.New()
	for at := int64(0); at < size; at += int64(len(buf)) {
		if _, err := src.ReadAt(buf, at); err != nil {
			b.Fatal(err)
		}
		h.Write(buf)
		if _, err := dst.WriteAt(buf, at); err != nil {
			b.Fatal(err)
		}
	}
	if err := dst.Flush(); err != nil {
		b.Fatal(err)
	}
	for at := int64(0); at < size; at += int64(len(buf)) {
		if _, err := dst.ReadAt(buf, at); err != nil {
			b.Fatal(err)
		}
		h.Write(buf)
	}
	h.Sum(nil)
	return cpu(b) - before
}
