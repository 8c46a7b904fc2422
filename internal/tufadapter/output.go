package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/twinkeel/twinkeel/signing"
)

// maxFileName is the length in bytes that every file system of use allows.
const maxFileName = 255

// download makes the file of one target in the target directory. Content that is there
// and still valid is neither asked for nor written again.
func (c *call) download(ctx context.Context, client *signing.Client, src *source, name string) error {
	if err := os.MkdirAll(c.targetDir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(c.targetDir, fileName(name))
	have, err := readFile(path, maxTarget)
	if err != nil {
		have = nil
	}
	at := &atHand{source: src, content: have}
	data, err := client.Target(ctx, at, name, maxTarget)
	if at.used && err != nil {
		// What was at hand is not what is listed, or no longer.
		data, err = client.Target(ctx, src, name, maxTarget)
	}
	if err != nil {
		return err
	}
	if have != nil && bytes.Equal(have, data) {
		return nil
	}
	return replace(path, data)
}

// atHand is a source that offers content for the first target asked for.
type atHand struct {
	*source
	content []byte
	used    bool
}

// Fetch implements signing.Source.
func (a *atHand) Fetch(ctx context.Context, path string, limit int64) ([]byte, error) {
	if a.content != nil && strings.HasPrefix(path, "targets/") {
		a.used = true
		return a.content, nil
	}
	return a.source.Fetch(ctx, path, limit)
}

// fileName is one path element for the name of a target, the same for the same name.
func fileName(target string) string {
	name := url.QueryEscape(target)
	if strings.HasPrefix(name, ".") {
		name = "%2E" + name[1:]
	}
	if len(name) > maxFileName {
		return fmt.Sprintf("%x", sha256.Sum256([]byte(target)))
	}
	return name
}

// replace writes a file so that only the whole of it is ever seen under its name.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("got %s of %d bytes, want a file of at most %d", info.Mode(), info.Size(), limit)}
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
