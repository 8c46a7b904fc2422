package floors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// tree is the source of a module, parsed, and its import graph.
type tree struct {
	module string
	fset   *token.FileSet
	files  []*file
	// graph holds the imports of every package in the closure, by full import path.
	graph map[string][]string
}

// file is one Go file.
type file struct {
	*ast.File
	name  string // relative to the module
	pkg   string // directory of name
	test  bool
	lines int
}

// parse reads all Go files of fsys, whatever their build constraints. Directories
// called testdata, hidden ones and nested modules are left out, as the go command does.
func parse(module string, fsys fs.FS) (*tree, error) {
	t := &tree{module: module, fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed while we look
			}
			return err
		case d.IsDir():
			if base := path.Base(name); name != "." && (base == "testdata" || base[0] == '.' || base[0] == '_' || nested(fsys, name)) {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(name, ".go"):
			return nil
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		a, err := parser.ParseFile(t.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		t.files = append(t.files, &file{
			File: a, name: name, pkg: path.Dir(name),
			test:  strings.HasSuffix(name, "_test.go"),
			lines: bytes.Count(src, []byte("\n")),
		})
		return nil
	})
	return t, err
}

func nested(fsys fs.FS, dir string) bool {
	_, err := fs.Stat(fsys, path.Join(dir, "go.mod"))
	return err == nil
}

// imports returns the import paths of f.
func (f *file) imports() []string {
	var paths []string
	for _, i := range f.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		paths = append(paths, p)
	}
	return paths
}

// ours returns the path of a package of this module relative to it; ok is false for
// another module's.
func (t *tree) ours(importPath string) (rel string, ok bool) {
	return strings.CutPrefix(importPath, t.module+"/")
}

// standard reports whether the path belongs to the standard library.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// packages lists the packages that have a file which is no test.
func (t *tree) packages() []string {
	var pkgs []string
	for _, f := range t.files {
		if !f.test && !slices.Contains(pkgs, f.pkg) {
			pkgs = append(pkgs, f.pkg)
		}
	}
	return pkgs
}

// at formats a position for a finding.
func (t *tree) at(n ast.Node) string {
	p := t.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// under reports whether path is prefix or lies below it; a prefix with a final slash
// takes in only what lies below.
func under(path, prefix string) bool {
	if strings.HasSuffix(prefix, "/") {
		return strings.HasPrefix(path, prefix)
	}
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// within reports whether one of the patterns takes in pkg: a package, "x/..." for x
// and all below it, or "..." for all.
func within(pkg string, patterns []string) bool {
	for _, p := range patterns {
		if p == "..." || p == pkg {
			return true
		}
		if base, ok := strings.CutSuffix(p, "/..."); ok && under(pkg, base) {
			return true
		}
	}
	return false
}

// roomOf finds the room of a package: the exact entry before the pattern.
func roomOf(pkg string) (room, bool) {
	for _, r := range house {
		if r.path == pkg {
			return r, true
		}
	}
	for _, r := range house {
		if ok, _ := path.Match(r.path, pkg); ok {
			return r, true
		}
	}
	return room{}, false
}

// listGraph asks the go command for the import graph of the module in dir, down to the
// last dependency.
func listGraph(t *testing.T, dir string) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Imports", "./...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	graph := map[string][]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err == io.EOF {
			return graph
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		graph[p.ImportPath] = p.Imports
	}
}
