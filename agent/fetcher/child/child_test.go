package child

import (
	"archive/tar"
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestOnlyPlainArchivesAreBundles(t *testing.T) {
	good := tar.Header{Name: "metadata/timestamp.json", Size: 700, Mode: 0o644}
	long := tar.Header{Name: "targets/" + strings.Repeat("a", 200), Size: 1, Format: tar.FormatPAX}
	if files, err := indexTar(bytes.NewReader(tarOf(t, good, long)), int64(len(tarOf(t, good, long)))); err != nil || len(files) != 2 || files[good.Name] != (extent{512, 700}) {
		t.Errorf("got %v, %v", files, err)
	}
	for name, h := range map[string]tar.Header{
		"symbolic link": {Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"},
		"hard link":     {Name: "a", Typeflag: tar.TypeLink, Linkname: good.Name},
		"directory":     {Name: "a/", Typeflag: tar.TypeDir},
		"fifo":          {Name: "a", Typeflag: tar.TypeFifo},
		"device":        {Name: "a", Typeflag: tar.TypeBlock},
		"absolute":      {Name: "/a"},
		"parent":        {Name: "../a"},
		"inner parent":  {Name: "a/../b"},
		"dot":           {Name: "./a"},
		"hidden":        {Name: "a/.b"},
		"newline":       {Name: "a\nb", Format: tar.FormatPAX},
		"very long":     {Name: strings.Repeat("a/", 300) + "a", Format: tar.FormatPAX},
		"twice":         good,
		"sparse":        {Name: "a", Format: tar.FormatPAX, PAXRecords: map[string]string{"VENDOR.x": "y"}},
	} {
		b := tarOf(t, good, h)
		if name == "sparse" { // which the writer refuses to make
			b = bytes.Replace(b, []byte("14 VENDOR.x=y"), []byte("22 GNU.sparse.name=a\n"), 1)
		}
		if files, err := indexTar(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: got %v and no error", name, files)
		}
	}
	b := tarOf(t, good)
	if _, err := indexTar(bytes.NewReader(b), 1000); err == nil {
		t.Error("truncated: got no error")
	}
}

func TestABundleIsARegularFileThatStaysAsItIs(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := openBundle(f); err == nil {
		t.Error("fifo: got no error")
	}
	path := filepath.Join(t.TempDir(), "bundle")
	if err := os.WriteFile(path, tarOf(t, tar.Header{Name: "a", Size: 5000}), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	b, err := openBundle(g)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 3000); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	err = b.get(context.Background(), wire.Request{Path: "a", Limit: 5000}, &got)
	if end := endFor(err); end.Code != wire.CodeCorrupt {
		t.Errorf("cut off: got %v after %d bytes, want corrupt", err, got.Len())
	}
}

// FuzzBundle indexes anything: every extent must lie within the archive.
func FuzzBundle(f *testing.F) {
	f.Add(tarOf(f, tar.Header{Name: "metadata/timestamp.json", Size: 10}))
	f.Add(tarOf(f, tar.Header{Name: "targets/" + strings.Repeat("a", 200), Size: 1, Format: tar.FormatPAX}))
	f.Add(tarOf(f, tar.Header{Name: "blobs/a", Size: 1, Format: tar.FormatGNU}))
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := indexTar(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for path, e := range files {
			if wire.CheckPath(path) != nil || e.offset < 0 || e.size < 0 || e.offset > int64(len(b))-e.size {
				t.Errorf("%q: got %+v in %d bytes", path, e, len(b))
			}
		}
	})
}

// FuzzResponseHeaders lets a server claim anything about a range. What is accepted must
// begin where it was asked to and fit into the limit.
func FuzzResponseHeaders(f *testing.F) {
	f.Add(206, "bytes 4-13/100", int64(10), `"a"`, int64(4), int64(10))
	f.Add(200, "", int64(100), "", int64(4), int64(10))
	f.Add(206, "bytes 4-13/*", int64(-1), "W/x", int64(4), int64(10))
	f.Add(206, "bytes -4-13/+20", int64(-1), "", int64(0), int64(1<<20))
	f.Fuzz(func(t *testing.T, status int, contentRange string, length int64, etag string, offset, limit int64) {
		r := wire.Request{Op: wire.OpGet, Path: "blobs/a", Offset: offset, Limit: limit}
		if r.Validate() != nil {
			return
		}
		header := http.Header{}
		header.Set("Content-Range", contentRange)
		header.Set("ETag", etag)
		tr := &transfer{Request: r, total: unknown}
		skip, rest, err := tr.accept(&http.Response{StatusCode: status, ContentLength: max(length, -1), Header: header}, offset, true)
		if err != nil {
			return
		}
		if status == http.StatusPartialContent && (skip != 0 || rest < 1 || rest > limit) {
			t.Errorf("206 %q: got skip %d, length %d for %d-%d", contentRange, skip, rest, offset, limit)
		}
		if status != http.StatusPartialContent && (skip != offset || rest != unknown && rest < 0) {
			t.Errorf("200: got skip %d, length %d for %d-%d", skip, rest, offset, limit)
		}
		_ = retryAfter(contentRange, time.Unix(0, 0))
	})
}

func TestContentRangesAreReadToTheLetter(t *testing.T) {
	for text, ok := range map[string]bool{
		"bytes 0-0/1": true, "bytes 5-9/*": true, "bytes 0-0/9223372036854775807": true,
		"": false, "bytes": false, "bytes */5": false, "bytes 5-4/9": false, "bytes 0-9/9": false, "bytes +0-1/9": false, "bytes 0--1/9": false,
		"bytes 0-1/": false, "bytes 0-99999999999999999999/*": false, "items 0-1/2": false, "bytes 0-1,3-4/9": false, "bytes  0-1/2": false,
	} {
		if _, _, _, got := parseContentRange(text); got != ok {
			t.Errorf("%q: got %v, want %v", text, got, ok)
		}
	}
}
