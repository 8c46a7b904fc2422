package translog

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkProof is what a host spends to find a new release in the log, and that the log
// still holds all that it saw half a log ago: CPU, bytes and requests.
func BenchmarkProof(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		d := disk{}
		old := d.grow(b, Empty(origin), entriesOf(0, n/2))
		c := d.grow(b, old, entriesOf(n/2, n))
		s, key := signer("log")
		note, err := c.Seal(s)
		if err != nil {
			b.Fatal(err)
		}
		d[CheckpointPath] = note
		policy := Policy{Mode: Require, Origin: origin, Keys: []string{key}}
		leaf := entry(n-1, "stable").Leaf()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			var bytes, requests int
			src := sourceFunc(func(ctx context.Context, path string, limit int64) ([]byte, error) {
				data, err := d.Fetch(ctx, path, limit)
				bytes += len(data)
				requests++
				return data, err
			})
			for b.Loop() {
				signed, err := src.Fetch(b.Context(), CheckpointPath, MaxCheckpoint)
				if err != nil {
					b.Fatal(err)
				}
				now, err := OpenCheckpoint(signed, policy)
				if err != nil {
					b.Fatal(err)
				}
				v := At(b.Context(), src, now)
				if err := v.Extends(old); err != nil {
					b.Fatal(err)
				}
				if _, err := v.Find(leaf); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(bytes)/float64(b.N), "proof-B/op")
			b.ReportMetric(float64(requests)/float64(b.N), "requests/op")
		})
	}
}

// BenchmarkAppend is what a publisher spends to log one more release.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{10, 10_000, 100_000} {
		d := disk{}
		c := d.grow(b, Empty(origin), entriesOf(0, n))
		next := entriesOf(n, n+1)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := At(b.Context(), d, c).Append(next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
