package appbuild

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/twinkeel/twinkeel/internal/erofs/mkfs"
)

func TestBadLayersAreRefused(t *testing.T) {
	ok := file("bin/web", "x")
	device := func(name string) member {
		return member{tar.Header{Name: name, Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""}
	}
	owner := ok
	owner.Uid = 70000
	for want, members := range map[string][]member{
		"leads out of the image":  {file("../etc/shadow", "x")},
		"leads out of the image ": {file("a/../../b", "x")},
		"the name is absolute":    {file("/etc/shadow", "x")},
		"hard link to \"../etc":   {link(tar.TypeLink, "a", "../etc/shadow")},
		"hard link to \"/etc":     {link(tar.TypeLink, "a", "/etc/shadow")},
		"hard link to \"absent":   {link(tar.TypeLink, "a", "absent/x")},
		"a hard link to itself":   {link(tar.TypeLink, "a", "a")},
		"file does not exist":     {link(tar.TypeLink, "a", "b"), link(tar.TypeLink, "b", "a")},
		"links lead in a circle":  {link(tar.TypeSymlink, "a", "b"), link(tar.TypeSymlink, "b", "a"), file("a/x", "x")},
		"leads to nothing":        {link(tar.TypeSymlink, "a", "nowhere"), file("a/x", "x")},
		"no directory":            {ok, file("bin/web/x", "x")},
		"a device node":           {device("var/null")},
		"it stands twice":         {ok, file("./bin/web", "y")},
		"the whiteout names":      {file("bin/.wh...", "")},
		"owner: got 70000":        {owner},
	} {
		img := container1(t, v1.Config{Entrypoint: []string{"/bin/web"}}, layer(t, members...))
		_, _, err := build(t, saveLayout(t, img), minimal)
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestWhatDoesNothingOnAHostIsDroppedAndSaid(t *testing.T) {
	suid, capable := file("bin/web", "x"), file("bin/ping", "x")
	suid.Mode = 0o6755
	capable.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01", "SCHILY.xattr.user.kept": "v"}
	null := member{tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""}
	escape := link(tar.TypeSymlink, "out", "../../../../etc/shadow") // it stays inside, as everywhere below a root
	img := container1(t, v1.Config{Entrypoint: []string{"/bin/web"}}, layer(t, suid, capable, dir("dev"), null, escape, file("bin/.wh.none", "")))
	r, m, err := build(t, saveTar(t, img), minimal)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(r.Warnings, "\n")
	for _, want := range []string{"set-user-id", "security.capability is dropped", "device nodes are left out", "hides nothing: bin/.wh.none", "runs as root"} {
		if !strings.Contains(text, want) {
			t.Errorf("warnings lack %q:\n%s", want, text)
		}
	}
	if m.Run.UID != 0 || m.Network.Mode != "none" {
		t.Errorf("got %+v", m)
	}
}

func TestLimitsHoldWhileReading(t *testing.T) {
	zeros := file("zeros", strings.Repeat("\x00", 4<<20)) // 4 KiB when compressed
	many := make([]member, 0, 300)
	for i := range 300 {
		many = append(many, file(fmt.Sprintf("f/%d", i), ""))
	}
	deep := file(strings.Repeat("d/", 400)+"f", "")
	for _, c := range []struct {
		limits Limits
		layers []v1.Layer
		want   string
	}{
		{Limits{Files: 1000, Bytes: 1 << 20}, []v1.Layer{layer(t, zeros)}, "more than 1048576 bytes"},
		{Limits{Files: 1000, Bytes: 6 << 20}, []v1.Layer{layer(t, zeros), layer(t, zeros)}, "layer 2: the layers hold more than"},
		{Limits{Files: 200, Bytes: 1 << 20}, []v1.Layer{layer(t, many...)}, "more than 200 files"},
		{Limits{Files: 400, Bytes: 1 << 20}, []v1.Layer{layer(t, many...), layer(t, many...)}, "layer 2: \"f/"},
		{Limits{Files: 200, Bytes: 1 << 20}, []v1.Layer{layer(t, deep)}, "more than 200 files"},
	} {
		img := container1(t, v1.Config{Entrypoint: []string{"/f"}}, c.layers...)
		_, err := Build(context.Background(), Options{From: saveLayout(t, img), Manifest: spec(t, minimal), Output: t.TempDir(), Limits: c.limits})
		if err == nil || !strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), "more than 400 files") {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
}

// crowd is a layer of a million files.
type crowd struct{ v1.Layer }

func (crowd) Uncompressed() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() {
		b := bufio.NewWriterSize(w, 1<<20)
		t := tar.NewWriter(b)
		for i := range 1_000_000 {
			if err := t.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/f%d", i%1000, i), Typeflag: tar.TypeReg}); err != nil {
				break
			}
		}
		w.CloseWithError(errors.Join(t.Close(), b.Flush()))
	}()
	return r, nil
}

func TestAMillionFilesAreRefused(t *testing.T) {
	r, _ := crowd{}.Uncompressed()
	sum, _, err := v1.SHA256(r)
	if err != nil {
		t.Fatal(err)
	}
	spool, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	tree, err := mkfs.NewTree(mkfs.Node{Mode: mkfs.Directory})
	if err != nil {
		t.Fatal(err)
	}
	f := &flattener{tree: tree, spool: spool, limits: DefaultLimits()}
	if err := f.layer(context.Background(), crowd{}, sum); err == nil || !strings.Contains(err.Error(), "more than 500000 files") {
		t.Errorf("got %v", err)
	}
	if tree.Len() != 1 {
		t.Errorf("got %d files held before they were counted", tree.Len())
	}
}

func TestDamagedImagesAreRefused(t *testing.T) {
	dir := saveLayout(t, web(t))
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil || len(blobs) != 4 {
		t.Fatalf("got %d blobs, %v", len(blobs), err)
	}
	for _, blob := range blobs {
		good, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Replace(good, []byte("/bin/web"), []byte("/bin/sh\x20"), 1)
		if bytes.Equal(bad, good) {
			bad = append(good[:len(good)/2:len(good)/2], good[len(good)/2+1:]...)
		}
		if err := os.WriteFile(blob, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := build(t, dir, minimal); err == nil {
			t.Errorf("%s: accepted though damaged", filepath.Base(blob))
		}
		if err := os.WriteFile(blob, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A whole layer in another's place is damage, too.
	img := web(t)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var paths [2]string
	for i, l := range layers {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		paths[i] = filepath.Join(dir, "blobs/sha256", d.Hex)
	}
	b, err := os.ReadFile(paths[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(paths[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := build(t, dir, minimal); err == nil || !strings.Contains(err.Error(), "its content is not what the configuration says") {
		t.Errorf("a layer in another's place: got %v", err)
	}
	for _, from := range []string{t.TempDir(), spec(t, "no tar"), "/absent", "./absent", "not a reference"} {
		if _, _, err := build(t, from, minimal); err == nil {
			t.Errorf("%s: accepted", from)
		}
	}
}
