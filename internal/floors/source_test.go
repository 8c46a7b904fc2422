package floors

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// named returns the import paths of f by the name that the file uses for them.
func named(f *file) map[string]string {
	names := map[string]string{}
	for _, i := range f.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		name := path.Base(p)
		if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" {
			name = path.Base(path.Dir(p))
		}
		name = strings.TrimPrefix(name, "go-")
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = p
	}
	return names
}

// door reports whether the file is one of the real implementations.
func door(name string) bool {
	for _, d := range doors {
		if strings.HasSuffix(d.files, "/") && strings.HasPrefix(name, d.files) {
			return true
		}
		if ok, _ := path.Match(d.files, name); ok {
			return true
		}
	}
	return false
}

func throughSeams(t *tree) (found []string) {
	for _, f := range t.files {
		if f.test || door(f.name) {
			continue
		}
		names := named(f)
		for _, dot := range []string{".", "_"} {
			if slices.ContainsFunc(bans, func(b ban) bool { return b.path == names[dot] }) {
				found = append(found, fmt.Sprintf("%s imports %s as %q, which hides its use", f.name, names[dot], dot))
			}
		}
		// Any mention counts, not only a call: time.Now kept as a value is a clock, too.
		ast.Inspect(f.File, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			for _, b := range bans {
				if names[x.Name] != b.path {
					continue
				}
				if len(b.names) > 0 && !slices.Contains(b.names, sel.Sel.Name) || slices.Contains(b.but, sel.Sel.Name) {
					continue
				}
				found = append(found, fmt.Sprintf("%s uses %s.%s: %s", t.at(sel), b.path, sel.Sel.Name, b.why))
			}
			return true
		})
	}
	return found
}

func documented(t *tree) (found []string) {
	has := map[string]bool{}
	for _, f := range t.files {
		switch {
		case f.Doc == nil || f.test:
		case path.Base(f.name) != "doc.go":
			found = append(found, fmt.Sprintf("%s has a package comment; it belongs into doc.go", f.name))
		case f.Name.Name == "main" || strings.HasPrefix(f.Doc.Text(), "Package "+f.Name.Name+" "):
			has[f.pkg] = true
		default:
			found = append(found, fmt.Sprintf("%s: the comment does not begin with %q", f.name, "Package "+f.Name.Name))
		}
	}
	for _, pkg := range t.packages() {
		if !has[pkg] {
			found = append(found, fmt.Sprintf("package %s has no comment in a doc.go", pkg))
		}
	}
	return found
}

func small(t *tree) (found []string) {
	for _, f := range t.files {
		fileLimit, funcLimit := maxFile, maxFunc
		if f.test {
			fileLimit, funcLimit = maxTestFile, maxTestFunc
		}
		if f.lines > fileLimit {
			found = append(found, fmt.Sprintf("%s: got %d lines, want at most %d", f.name, f.lines, fileLimit))
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := t.fset.Position(fn.End()).Line - t.fset.Position(fn.Pos()).Line + 1
			if n > funcLimit {
				found = append(found, fmt.Sprintf("%s: %s has %d lines, want at most %d", t.at(fn), fn.Name.Name, n, funcLimit))
			}
		}
	}
	return found
}

func noState(t *tree) (found []string) {
	written := map[string]bool{} // package and name
	for _, f := range t.files {
		if !f.test {
			writes(f, written)
		}
	}
	for _, f := range t.files {
		if f.test {
			continue
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.Name == "init" && d.Recv == nil {
					found = append(found, t.at(d)+": init runs unasked")
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR {
					continue
				}
				for _, s := range d.Specs {
					v := s.(*ast.ValueSpec)
					if written[f.pkg+"."+v.Names[0].Name] {
						found = append(found, fmt.Sprintf("%s: variable %s is written to", t.at(v), v.Names[0].Name))
					}
					if !fixed(f, d, v) {
						found = append(found, fmt.Sprintf("%s: variable %s is neither an error, a table, a pattern nor embedded", t.at(v), v.Names[0].Name))
					}
				}
			}
		}
	}
	return found
}

// writes notes the package-level names that a file's functions assign to.
func writes(f *file, written map[string]bool) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		local := locals(fn)
		note := func(e ast.Expr) {
			if name := rootName(e); name != "" && name != "_" && !local[name] {
				written[f.pkg+"."+name] = true
			}
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, e := range n.Lhs {
						note(e)
					}
				}
			case *ast.IncDecStmt:
				note(n.X)
			}
			return true
		})
	}
}

// rootName is the variable at the bottom of x.y[z].
func rootName(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// locals are all names that a function declares, wherever in it.
func locals(fn *ast.FuncDecl) map[string]bool {
	names := map[string]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, i := range n.Names {
				names[i.Name] = true
			}
		case *ast.ValueSpec:
			for _, i := range n.Names {
				names[i.Name] = true
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, e := range n.Lhs {
					names[rootName(e)] = true
				}
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if e != nil && n.Tok == token.DEFINE {
					names[rootName(e)] = true
				}
			}
		}
		return true
	})
	return names
}

// constructors make values that stay as they are.
var constructors = []string{
	"errors.New", "fmt.Errorf", "regexp.MustCompile", "template.Must", "crc32.MakeTable", "strings.NewReplacer",
}

// fixed reports whether a package-level variable is only ever read, as far as its
// declaration shows: an error, a table, a pattern, an embedded file, a check that a
// type implements an interface, or the version that the linker puts into a command.
func fixed(f *file, d *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{d.Doc, v.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	if strings.HasPrefix(f.pkg, "cmd/") && v.Names[0].Name == "version" {
		return true
	}
	if len(v.Values) == 0 {
		return false
	}
	for i, val := range v.Values {
		if v.Names[i].Name != "_" && !fixedValue(val) {
			return false
		}
	}
	return true
}

func fixedValue(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		return true
	case *ast.UnaryExpr:
		return e.Op == token.AND && fixedValue(e.X)
	case *ast.CallExpr:
		switch fun := e.Fun.(type) {
		case *ast.FuncLit: // works a table out
			return true
		case *ast.Ident:
			return fun.Name != "make" && fun.Name != "new" && len(e.Args) > 0
		case *ast.SelectorExpr:
			x, ok := fun.X.(*ast.Ident)
			if !ok {
				return fixedValue(fun.X) // template.Must(…).Funcs(…)
			}
			return slices.Contains(constructors, x.Name+"."+fun.Sel.Name)
		case *ast.ArrayType: // []byte("magic")
			return true
		}
	}
	return false
}

func ownSignatures(t *tree) (found []string) {
	for _, f := range t.files {
		// A command exports nothing that anyone could import.
		if f.test || f.Name.Name == "main" {
			continue
		}
		names := named(f)
		report := func(what string, n ast.Node) {
			if n == nil {
				return
			}
			ast.Inspect(n, func(n ast.Node) bool {
				if field, ok := n.(*ast.Field); ok && len(field.Names) > 0 && what == "type" &&
					!slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
					return false
				}
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok {
					p := names[x.Name]
					if _, mine := t.ours(p); p != "" && !mine && !standard(p) {
						found = append(found, fmt.Sprintf("%s: an exported %s mentions %s.%s", t.at(sel), what, p, sel.Sel.Name))
					}
				}
				return true
			})
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) {
					report("function", d.Type)
				}
			case *ast.GenDecl:
				exportedSpecs(d, report)
			}
		}
	}
	return found
}

// exportedSpecs reports the exported types, constants and variables of a declaration,
// with the values of those whose type is inferred.
func exportedSpecs(d *ast.GenDecl, report func(string, ast.Node)) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				report("type", s.Type)
			}
		case *ast.ValueSpec:
			if !slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
				continue
			}
			if s.Type != nil {
				report("value", s.Type)
				continue
			}
			if d.Tok == token.CONST {
				continue // takes over a number or a string, not a type
			}
			for _, v := range s.Values {
				report("value", v)
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

func noMarkers(t *tree) (found []string) {
	for _, f := range t.files {
		for _, g := range f.Comments {
			for _, c := range g.List {
				for _, mark := range []string{"TO" + "DO", "FIX" + "ME", "XX" + "X"} {
					if strings.Contains(c.Text, mark) {
						found = append(found, fmt.Sprintf("%s: %s in a comment; do it or write an issue", t.at(c), mark))
					}
				}
			}
		}
	}
	return found
}
