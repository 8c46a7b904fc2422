package signing_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/signingtest"
)

// benchRepo has n releases in one channel and a directive.
func benchRepo(n int) *repo {
	r := signingtest.New(start, "stable")
	for i := range n {
		r.SetTarget(fmt.Sprintf("os/stable/example-amd64/2026.11.21.%d.json", i), fmt.Appendf(nil, `{"release":%d}`, i))
	}
	r.SetTarget(directiveName, []byte(`{"directive":1}`))
	r.Publish("os-stable", "fleet-stable")
	return r
}

// BenchmarkRefresh is what a host spends on a poll, by number of releases: from nothing
// (cold), with a new release published (new), with nothing new in a process that stays
// (same), and with nothing new in a new process (start). It looks up the directive, and
// the newest manifest except where nothing is new.
func BenchmarkRefresh(b *testing.B) {
	newest := func(n int) string { return fmt.Sprintf("os/stable/example-amd64/2026.11.21.%d.json", n-1) }
	for _, n := range []int{10, 1000, 10000} {
		r := benchRepo(n)
		open := func(d *disk) *signing.Client {
			c, err := signing.Open(signing.Config{Dir: d, Factory: r.RootBytes(1), Now: func() time.Time { return start }})
			if err != nil {
				b.Fatal(err)
			}
			return c
		}
		poll := func(b *testing.B, c *signing.Client, names ...string) {
			if err := c.Refresh(context.Background(), r); err != nil {
				b.Fatal(err)
			}
			for _, name := range names {
				if _, err := c.Target(context.Background(), r, name, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
		}
		run := func(name string, setup, do func(b *testing.B)) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				var bytes int64
				for b.Loop() {
					b.StopTimer()
					setup(b)
					r.Bytes = 0
					b.StartTimer()
					do(b)
					bytes += r.Bytes
				}
				b.ReportMetric(float64(bytes)/float64(b.N), "metadata-B/op")
			})
		}
		var c *signing.Client
		var d *disk
		warm := func(b *testing.B) {
			if d == nil {
				d = newDisk()
				c = open(d)
				poll(b, c, directiveName, newest(n))
			}
		}
		run("cold", func(*testing.B) {}, func(b *testing.B) { poll(b, open(newDisk()), directiveName, newest(n)) })
		run("same", warm, func(b *testing.B) { poll(b, c, directiveName) })
		run("start", warm, func(b *testing.B) { poll(b, open(d), directiveName) })
		run("new", func(b *testing.B) { warm(b); r.Publish("os-stable", "fleet-stable") },
			func(b *testing.B) { poll(b, c, directiveName, newest(n)) })
	}
}

// TestMetadataBytesOfAPoll holds the figures that docs/BENCHMARKS.md is about: a poll
// that finds nothing new costs the same small number of bytes however many releases
// there are.
func TestMetadataBytesOfAPoll(t *testing.T) {
	var idle []int64
	for _, n := range []int{10, 1000} {
		r := benchRepo(n)
		h := newHost(t, r)
		if err := h.refresh(r); err != nil {
			t.Fatal(err)
		}
		if _, err := h.target(r, directiveName); err != nil {
			t.Fatal(err)
		}
		for _, p := range r.TakeRequests() {
			if strings.Contains(p, "os-stable") {
				t.Errorf("the directive made the host fetch %s", p)
			}
		}
		r.Bytes = 0
		h.mustRefresh(r)
		if _, err := h.target(r, directiveName); err != nil {
			t.Fatal(err)
		}
		idle = append(idle, r.Bytes/2)
	}
	if idle[0] != idle[1] || idle[0] > 1024 {
		t.Errorf("bytes of a poll that finds nothing new: got %d, want the same for any number of releases, at most 1024", idle)
	}
}
