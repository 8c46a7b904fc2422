package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/twinkeel/twinkeel/internal/story"
)

func main() {
	bin := flag.String("bin", "bin", "directory of the commands")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := quickstart(ctx, os.Stdout, *bin)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// quickstart tells the story in a directory of its own, which it removes if all went well.
func quickstart(ctx context.Context, out io.Writer, bin string) error {
	work, err := os.MkdirTemp("", "twinkeel-quickstart-")
	if err != nil {
		return fmt.Errorf("work directory: %w", err)
	}
	releases, err := makeImages(filepath.Join(work, "images"))
	if err != nil {
		return err
	}
	parts := map[string]string{"record": filepath.Join(work, "boot-record")}
	for _, slot := range []string{"a", "b"} {
		for name, size := range imageSizes() {
			parts[name+"-"+slot] = filepath.Join(work, name+"-"+slot)
			// Room for the verity tree, and for a release that has grown.
			if err := sparse(parts[name+"-"+slot], size+size/4); err != nil {
				return err
			}
		}
	}
	if err := sparse(parts["record"], 1<<20); err != nil {
		return err
	}
	running := filepath.Join(work, "running")
	s := story.Story{
		Title: "twinkeel quickstart: made-up images, slots as files, the real commands",
		Out:   out, Bin: bin, Work: work, State: filepath.Join(work, "state"),
		Releases: releases, Slots: parts, Devices: parts, Record: parts["record"],
		System: system{running, parts},
		Probes: []story.Probe{{Name: "web", Command: []string{"/bin/sh", "-c", `head -c 4096 "$0" | grep -q ^health=good`, running}}},
		Soak:   time.Second, Deadline: 3 * time.Second,
	}
	if err := s.Tell(ctx); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

func sparse(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("partition: %w", err)
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// system is what runs in a slot: nothing but a link that says which one it is.
type system struct {
	link  string
	parts map[string]string
}

// Start implements machine.System.
func (s system) Start(_ context.Context, slot string) (func() error, error) {
	if err := os.Remove(s.link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("running slot: %w", err)
	}
	return func() error { return nil }, os.Symlink(s.parts["root-"+slot], s.link)
}

func imageSizes() map[string]int64 { return map[string]int64{"root": 16 << 20, "boot": 1 << 20} }

// makeImages writes the images of four releases below dir.
func makeImages(dir string) (releases [4]story.Release, err error) {
	for i := range releases {
		r := story.Release{Version: fmt.Sprintf("1.%d", i), Images: make(map[string]string)}
		health := "good"
		if i == 2 {
			health = "bad"
		}
		for name, size := range imageSizes() {
			r.Images[name] = filepath.Join(dir, r.Version, name+".img")
			if err := os.MkdirAll(filepath.Dir(r.Images[name]), 0o755); err != nil {
				return releases, fmt.Errorf("images: %w", err)
			}
			head := fmt.Sprintf("image=%s\nversion=%s\nhealth=%s\n", name, r.Version, health)
			if err := os.WriteFile(r.Images[name], image(head, size, i), 0o644); err != nil {
				return releases, fmt.Errorf("images: %w", err)
			}
		}
		releases[i] = r
	}
	return releases, nil
}

// image returns a first block that holds head, and size-4096 bytes of noise of which
// each of the given number of edits has changed one block in 64.
func image(head string, size int64, edits int) []byte {
	const block = 4096
	b := make([]byte, size)
	noise := rand.NewChaCha8([32]byte([]byte("the same noise in every telling.")))
	_, _ = noise.Read(b[block:]) // never fails
	for range edits {
		for at := block; at < len(b); at += 64 * block {
			_, _ = noise.Read(b[at : at+block])
		}
	}
	for at := block; at < len(b); at += block {
		clear(b[at+block/2 : at+block]) // so that there is something to compress
	}
	copy(b, head)
	return b
}
