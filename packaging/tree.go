package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// entry is what the newest entry of a changelog says.
type entry struct {
	version string
	date    time.Time
}

// The first line of an entry, and its last one: Debian Policy, 4.4.
var (
	entryForm = regexp.MustCompile(`^twinkeel \(([0-9]+\.[0-9]+\.[0-9]+)\) [a-z]+; urgency=[a-z]+\n`)
	dateForm  = regexp.MustCompile(`(?m)^ -- [^\n]+ <[^\n>]+>  ([^\n]+)$`)
)

// readChangelog reads the newest entry of a Debian changelog.
func readChangelog(path string) (entry, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return entry{}, fmt.Errorf("changelog: %w", err)
	}
	head, tail := entryForm.FindSubmatch(b), dateForm.FindSubmatch(b)
	if head == nil || tail == nil {
		return entry{}, fmt.Errorf("changelog %s: got %.80q, want an entry of twinkeel with version and date", path, b)
	}
	date, err := time.Parse(time.RFC1123Z, string(tail[1]))
	if err != nil {
		return entry{}, fmt.Errorf("changelog %s: %w", path, err)
	}
	return entry{string(head[1]), date.UTC()}, nil
}

// tree is the source, and a directory in which packages are put together:
//
//	bin/ARCH/COMMAND    what was compiled
//	native/COMMAND      the same for this machine, to be asked for its documents
//	man/PAGE.gz         manual pages
//	complete/SHELL/COMMAND
type tree struct {
	source, work string
	top          entry
}

// commands are compiled, in the order in which they are packaged.
var commands = []string{"twinkeel", "twinkeeld", "twinkeel-init", "twinkeel-shim", "twinkeel-server"}

// compile builds the commands for an architecture, as `make build` does.
func (t tree) compile(ctx context.Context, arch string) error {
	dir := filepath.Join(t.work, "bin", arch)
	for _, c := range commands {
		if err := t.gobuild(ctx, filepath.Join(dir, c), c, "GOARCH="+arch); err != nil {
			return err
		}
	}
	return nil
}

func (t tree) gobuild(ctx context.Context, out, command, env string, flags ...string) error {
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/"+command)...)
	cmd.Dir = t.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=", "GOAMD64=", "GOARM64=", env)
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s (%s): %w\n%s", command, env, err, b)
	}
	return nil
}

// documents has the commands write their manual pages and completions.
func (t tree) documents(ctx context.Context) error {
	pages := filepath.Join(t.work, "pages")
	for _, c := range []struct {
		name    string
		man     []string
		tags    string
		version bool
	}{
		{"twinkeel", []string{"man"}, "", true},
		{"twinkeeld", []string{"man"}, "manpages", true},
		{"twinkeel-server", []string{"docs"}, "", false},
	} {
		native := filepath.Join(t.work, "native", c.name)
		if err := t.gobuild(ctx, native, c.name, "GOARCH=", "-tags="+c.tags); err != nil {
			return err
		}
		if _, err := t.run(ctx, native, append(c.man, pages)...); err != nil {
			return err
		}
		if c.version {
			out, err := t.run(ctx, native, "--version")
			if err != nil {
				return err
			}
			if want := c.name + " version " + t.top.version + "\n"; string(out) != want {
				return fmt.Errorf("version: got %q, want %q as the changelog says", out, want)
			}
		}
		if c.name == "twinkeeld" {
			continue // nobody types it
		}
		for _, shell := range []string{"bash", "zsh", "fish"} {
			out, err := t.run(ctx, native, "completion", shell)
			if err != nil {
				return err
			}
			if err := write(filepath.Join(t.work, "complete", shell, c.name), out); err != nil {
				return err
			}
		}
	}
	return t.compressPages(pages)
}

func (t tree) compressPages(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if b, err = zip(b); err != nil {
			return err
		}
		if err := write(filepath.Join(t.work, "man", e.Name()+".gz"), b); err != nil {
			return err
		}
	}
	return nil
}

// run runs a command of ours, at the time of the changelog.
func (t tree) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(t.top.date.Unix(), 10))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), args[0], err, stderr.Bytes())
	}
	return out, nil
}

// zip compresses as `gzip -9n` does: without name and time.
func zip(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func write(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}
