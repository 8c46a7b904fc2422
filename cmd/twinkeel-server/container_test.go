package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// cmdContainer (container FILE.tar LAYOUT SIZE SEED [OFFSET]) writes a container image, as
// docker save and as an OCI layout: a program of noise, changed a little at OFFSET.
func cmdContainer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: container FILE.tar LAYOUT SIZE SEED [OFFSET]")
	}
	size, err := strconv.Atoi(args[2])
	ts.Check(err)
	program := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte(args[3]))).Read(program)
	if len(args) > 4 {
		offset, err := strconv.Atoi(args[4])
		ts.Check(err)
		copy(program[offset:], "changed")
	}
	img, err := containerImage(map[string]string{"bin/web": string(program), "etc/passwd": "web:x:1000:1000::/:/bin/sh\n", "etc/web.conf": args[3]})
	ts.Check(err)
	tag, err := name.NewTag("web:1")
	ts.Check(err)
	ts.Check(tarball.WriteToFile(ts.MkAbs(args[0]), tag, img))
	p, err := layout.Write(ts.MkAbs(args[1]), empty.Index)
	ts.Check(err)
	ts.Check(p.AppendImage(img))
}

func containerImage(files map[string]string) (v1.Image, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, path := range []string{"bin/web", "etc/passwd", "etc/web.conf"} {
		if err := w.WriteHeader(&tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(files[path]))}); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, files[path]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: mustRootFS(img),
		Config: v1.Config{Entrypoint: []string{"/bin/web"}, User: "web", ExposedPorts: map[string]struct{}{"8080/tcp": {}}, Volumes: map[string]struct{}{"/data": {}}}})
}

// mustRootFS is what the configuration of an image says of its layers.
func mustRootFS(img v1.Image) v1.RootFS {
	c, err := img.ConfigFile()
	if err != nil {
		panic(err)
	}
	return c.RootFS
}
