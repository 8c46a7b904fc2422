package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var b bench
	var names string
	flag.StringVar(&b.dir, "corpus", ".cache/bench", "`directory` of the files")
	flag.StringVar(&b.bin, "bin", "bin", "`directory` of twinkeel-server")
	flag.StringVar(&b.doc, "doc", "docs/bench-tables.md", "`file` for the tables")
	flag.StringVar(&names, "pairs", "", "`names` of pairs, separated by commas; none: all")
	flag.BoolVar(&b.ours, "ours", false, "measure our own engine only")
	flag.BoolVar(&b.again, "again", false, "measure all tools again, not only our own")
	flag.Parse()
	if err := b.run(ctx, names); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	dir, bin, doc string
	again, ours   bool
	results       map[string]measured // by pair
}

// measured is what is known of a pair; it holds as long as the digests do.
type measured struct {
	Old     string            `json:"old"` // SHA-256
	New     string            `json:"new"`
	OldSize int64             `json:"oldSize"`
	NewSize int64             `json:"newSize"`
	Tools   map[string]result `json:"tools"`
}

func (b *bench) run(ctx context.Context, names string) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	if err := b.load(); err != nil {
		return err
	}
	for _, p := range chosen {
		if err := b.pair(ctx, p); err != nil {
			return fmt.Errorf("pair %s: %w", p.name, err)
		}
	}
	return nil
}

func choose(names string) ([]pair, error) {
	if names == "" {
		return pairs, nil
	}
	var list []pair
	for _, name := range strings.Split(names, ",") {
		i := slices.IndexFunc(pairs, func(p pair) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no such pair: %q", name)
		}
		list = append(list, pairs[i])
	}
	return list, nil
}

func (b *bench) pair(ctx context.Context, p pair) error {
	build := exec.CommandContext(ctx, "internal/bench/corpus.sh", b.dir, p.old, p.new)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the corpus: %w", err)
	}
	j := job{old: filepath.Join(b.dir, p.old), new: filepath.Join(b.dir, p.new), dir: b.dir}
	m, err := describe(j)
	if err != nil {
		return err
	}
	j.size = m.OldSize + m.NewSize
	if known := b.results[p.name]; known.Old == m.Old && known.New == m.New && !b.again {
		m.Tools = known.Tools
	}
	for _, t := range tools(b.bin) {
		if _, known := m.Tools[t.name]; (known || b.ours) && !t.ours || t.limit > 0 && j.size > t.limit {
			continue
		}
		if _, err := exec.LookPath(t.needs); err != nil {
			fmt.Fprintf(os.Stderr, "%-14s %-24s is not installed\n", p.name, t.name)
			continue
		}
		r, err := measure(ctx, t, j)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		m.Tools[t.name] = r
		b.results[p.name] = m
		if err := b.save(); err != nil {
			return err
		}
		fmt.Printf("%-14s %-24s %12d bytes %8.2f s %6d MiB\n", p.name, t.name, r.Bytes, r.Make.CPU, r.Make.MiB)
	}
	return nil
}

func describe(j job) (m measured, err error) {
	m.Tools = map[string]result{}
	for _, f := range []struct {
		path   string
		digest *string
		size   *int64
	}{{j.old, &m.Old, &m.OldSize}, {j.new, &m.New, &m.NewSize}} {
		if *f.digest, err = digest(f.path); err != nil {
			return m, err
		}
		st, err := os.Stat(f.path)
		if err != nil {
			return m, err
		}
		*f.size = st.Size()
	}
	return m, nil
}

func (b *bench) load() error {
	b.results = map[string]measured{}
	text, err := os.ReadFile(filepath.Join(b.dir, "results.json"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, &b.results)
}

func (b *bench) save() error {
	text, err := json.MarshalIndent(b.results, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, "results.json")
	if err := os.WriteFile(file+".partial", text, 0o644); err != nil {
		return err
	}
	if err := os.Rename(file+".partial", file); err != nil {
		return err
	}
	tables, err := render(b.results, hdiffpatch)
	if err != nil {
		return err
	}
	return os.WriteFile(b.doc, []byte(tables), 0o644)
}

// hdiffpatch is what HDiffPatch made of files with these digests.
//
//go:embed hdiffpatch.tsv
var hdiffpatch string
