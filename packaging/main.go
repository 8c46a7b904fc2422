package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	out := flag.String("out", "../.cache/deb", "`directory` for the packages")
	archs := flag.String("arch", "amd64,arm64", "architectures, separated by commas")
	source := flag.String("source", "..", "`directory` of the source")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := build(ctx, *source, *out, strings.Split(*archs, ","))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

// build writes the packages for each architecture into out.
func build(ctx context.Context, source, out string, archs []string) error {
	source, err := filepath.Abs(source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	work, err := os.MkdirTemp("", "twinkeel-packaging-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	top, err := readChangelog(filepath.Join(source, "packaging/debian/changelog"))
	if err != nil {
		return err
	}
	t := tree{source: source, work: work, top: top}
	if err := t.documents(ctx); err != nil {
		return err
	}
	for _, arch := range archs {
		if err := t.compile(ctx, arch); err != nil {
			return err
		}
		for _, p := range packages {
			path, err := t.pack(p, arch, out)
			if err != nil {
				return fmt.Errorf("package %s for %s: %w", p.name, arch, err)
			}
			fmt.Println(path)
		}
	}
	return nil
}
