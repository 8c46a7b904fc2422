package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// pair is two files of the corpus, and what is between them.
type pair struct{ name, old, new, what string }

var pairs = []pair{
	{"esbuild", "esbuild-a.raw", "esbuild-b.raw", "a Go program, 0.28.1 to 0.28.2"},
	{"biome", "biome-a.raw", "biome-b.raw", "a Rust program, 2.6.7 to 2.6.8"},
	{"node", "node-a.raw", "node-b.raw", "a C++ program, 26.9.0 to 26.10.0"},
	{"os12", "os1.erofs", "os2.erofs", "Debian 12 server, all fixes since its release, same kernel; EROFS"},
	{"os23", "os2.erofs", "os3.erofs", "the same with a newer kernel; EROFS"},
	{"os34", "os3.erofs", "os4.erofs", "the same to Debian 13; EROFS"},
	{"os12-ext4", "os1.ext4", "os2.ext4", "os12 as ext4"},
	{"os12-lz4", "os1.lz4.erofs", "os2.lz4.erofs", "os12 as compressed EROFS"},
	{"os23-lz4", "os2.lz4.erofs", "os3.lz4.erofs", "os23 as compressed EROFS"},
	{"os12-squashfs", "os1.zstd.squashfs", "os2.zstd.squashfs", "os12 as squashfs"},
	{"esbuild-erofs", "esbuild-a.erofs", "esbuild-b.erofs", "the application's image, EROFS"},
	{"esbuild-lz4", "esbuild-a.lz4.erofs", "esbuild-b.lz4.erofs", "the application's image, compressed EROFS"},
	{"esbuild-squashfs", "esbuild-a.zstd.squashfs", "esbuild-b.zstd.squashfs", "the application's image, squashfs"},
	{"node-erofs", "node-a.erofs", "node-b.erofs", "the application's image, EROFS"},
	{"node-lz4", "node-a.lz4.erofs", "node-b.lz4.erofs", "the application's image, compressed EROFS"},
	{"node-squashfs", "node-a.zstd.squashfs", "node-b.zstd.squashfs", "the application's image, squashfs"},
}

// job is where a tool works.
type job struct {
	old, new string
	size     int64  // of old and new together
	delta    string // to be made
	out      string // to be made of old and delta
	dir      string // empty, for whatever else
}

// window is the smallest power of two that both files fit into, half of it each.
func (j job) window() string {
	n := int64(16 << 20)
	for n < j.size/2 && n < 1<<30 {
		n *= 2
	}
	return strconv.FormatInt(n, 10)
}

// tool is one way from old to new.
type tool struct {
	name  string
	ours  bool
	needs string // program
	limit int64  // of old and new together, bytes; 0: none. Beyond, it takes hours or all memory
	// prepare makes what a host has already; it is not measured.
	prepare func(j job) [][]string
	make    func(j job) []string
	apply   func(j job) []string // nil: not measured
	// bytes tells the download where it is not the size of delta.
	bytes func(j job) (int64, error)
}

// tools returns the tools; bin is where our own command lies.
func tools(bin string) []tool {
	server := filepath.Join(bin, "twinkeel-server")
	return []tool{
		{name: "twinkeel", ours: true, needs: server,
			make: func(j job) []string {
				return []string{server, "--quiet", "delta", "create", j.old, j.new, "-o", j.delta}
			},
			apply: func(j job) []string {
				return []string{server, "--quiet", "delta", "apply", j.old, j.delta, "-o", j.out}
			}},
		{name: "twinkeel, full image", ours: true, needs: server,
			make: func(j job) []string {
				return []string{server, "--quiet", "delta", "create", "-", j.new, "-o", j.delta}
			},
			apply: func(j job) []string {
				return []string{server, "--quiet", "delta", "apply", "-", j.delta, "-o", j.out}
			}},
		{name: "bsdiff", needs: "bsdiff", limit: 64 << 20,
			make:  func(j job) []string { return []string{"bsdiff", j.old, j.new, j.delta} },
			apply: func(j job) []string { return []string{"bspatch", j.old, j.out, j.delta} }},
		{name: "xdelta3 -9", needs: "xdelta3",
			make: func(j job) []string {
				return []string{"xdelta3", "-9", "-B", j.window(), "-e", "-s", j.old, j.new, j.delta}
			},
			apply: func(j job) []string {
				return []string{"xdelta3", "-B", j.window(), "-d", "-s", j.old, j.delta, j.out}
			}},
		{name: "zstd -19 --patch-from", needs: "zstd",
			make: func(j job) []string {
				return []string{"zstd", "-q", "-19", "--long=31", "--patch-from=" + j.old, j.new, "-o", j.delta}
			},
			apply: func(j job) []string {
				return []string{"zstd", "-q", "-d", "--long=31", "--memory=2048MB", "--patch-from=" + j.old, j.delta, "-o", j.out}
			}},
		casync(), zchunk(),
	}
}

// casync's delta is the index and the chunks that the store did not have.
func casync() tool {
	store := func(j job) string { return filepath.Join(j.dir, "store.castr") }
	return tool{name: "casync, new chunks", needs: "casync",
		prepare: func(j job) [][]string {
			return [][]string{{"casync", "make", "--store=" + store(j), filepath.Join(j.dir, "old.caibx"), j.old},
				{"sh", "-c", `find "$1" -type f >"$2"`, "sh", store(j), filepath.Join(j.dir, "old.list")}}
		},
		make: func(j job) []string {
			return []string{"casync", "make", "--store=" + store(j), filepath.Join(j.dir, "new.caibx"), j.new}
		},
		apply: func(j job) []string {
			return []string{"casync", "extract", "--store=" + store(j), filepath.Join(j.dir, "new.caibx"), j.out}
		},
		bytes: func(j job) (int64, error) {
			list, err := os.ReadFile(filepath.Join(j.dir, "old.list"))
			if err != nil {
				return 0, err
			}
			old := map[string]bool{}
			for _, name := range strings.Fields(string(list)) {
				old[name] = true
			}
			index, err := os.Stat(filepath.Join(j.dir, "new.caibx"))
			if err != nil {
				return 0, err
			}
			sum := index.Size()
			err = filepath.Walk(store(j), func(path string, st os.FileInfo, err error) error {
				if err == nil && st.Mode().IsRegular() && !old[path] {
					sum += st.Size()
				}
				return err
			})
			return sum, err
		}}
}

// zchunk's delta is what its own tool says would be fetched.
func zchunk() tool {
	oldFile := func(j job) string { return filepath.Join(j.dir, "old.zck") }
	newFile := func(j job) string { return filepath.Join(j.dir, "new.zck") }
	return tool{name: "zchunk", needs: "zck",
		prepare: func(j job) [][]string { return [][]string{{"zck", "-o", oldFile(j), j.old}} },
		make:    func(j job) []string { return []string{"zck", "-o", newFile(j), j.new} },
		bytes: func(j job) (int64, error) {
			text, err := output("zck_delta_size", oldFile(j), newFile(j))
			if err != nil {
				return 0, err
			}
			// "Would download 4332744 of 4651872 bytes"
			for i, f := 0, strings.Fields(text); i+1 < len(f); i++ {
				if f[i] == "download" {
					return strconv.ParseInt(f[i+1], 10, 64)
				}
			}
			return 0, fmt.Errorf("zck_delta_size: no size in %q", text)
		}}
}
