package translog

import (
	"context"
	"testing"
)

func FuzzEntry(f *testing.F) {
	f.Add(entry(1, "stable").Encode())
	f.Add(Entry{Publisher: "acme", Name: "web", Version: entry(1, "").Version}.Encode())
	f.Add([]byte(entryHead + "\n\n\n\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b)
		if err == nil && string(e.Encode()) != string(b) {
			t.Errorf("%q: has a second spelling", b)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	s, key := signer("log")
	c := Checkpoint{Origin: origin, Size: 7}
	note, err := c.Seal(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(note)
	f.Add([]byte(c.text() + "\n"))
	policy := Policy{Mode: Require, Origin: origin, Keys: []string{key}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := OpenCheckpoint(b, policy); err == nil && got != c {
			t.Errorf("%q: got %+v, which nobody signed", b, got)
		}
		// What is not signed must be refused without harm; the parser is met as well.
		_, _ = Remembered(string(b))
		_, _ = ParsePolicy(b)
	})
}

// FuzzTile serves the same hostile bytes for every file of a log.
func FuzzTile(f *testing.F) {
	honest := disk{}
	c := honest.grow(f, Empty(origin), entriesOf(0, 300))
	for _, path := range []string{"log/tile/0/001.p/44", "log/tile/1/000.p/1"} {
		f.Add(honest[path], int64(300), int64(3))
	}
	leaf := entry(3, "stable").Leaf()
	f.Fuzz(func(t *testing.T, b []byte, size, index int64) {
		src := sourceFunc(func(_ context.Context, path string, limit int64) ([]byte, error) {
			return b[:min(int64(len(b)), limit)], nil
		})
		c := c
		if size > 0 && size <= MaxSize {
			c.Size = size
		}
		v := At(context.Background(), src, c)
		if err := v.Includes(index, leaf); err == nil {
			t.Errorf("size %d, index %d: %d hostile bytes prove an entry", size, index, len(b))
		}
		if err := v.Extends(Checkpoint{Origin: origin, Size: min(5, c.Size)}); err == nil {
			t.Errorf("size %d: %d hostile bytes prove an extension", size, len(b))
		}
		_ = v.Entries(max(0, c.Size-1), func(int64, Entry) error { return nil })
		_, _ = splitBundle(b, 256)
	})
}
