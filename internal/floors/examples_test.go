package floors

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// example is a small tree and what a rule says of it.
type example struct {
	rule  string
	files map[string]string // name to source
	graph map[string][]string
	want  string // part of a finding; "" for none
}

const ourPath = "github.com/twinkeel/twinkeel/"

var examples = []example{
	{rule: "packages import only downwards, and never the other wing",
		files: map[string]string{"release/r.go": `package release; import "` + ourPath + `deltas"`},
		want:  "floor 2 is not below 0"},
	{rule: "packages import only downwards, and never the other wing",
		files: map[string]string{"server/s.go": `package server; import "` + ourPath + `agent"`},
		want:  "imports agent of the host wing"},
	{rule: "packages import only downwards, and never the other wing",
		files: map[string]string{"agent/writer/w.go": `package writer; import "` + ourPath + `signing/publisher"`},
		want:  "imports signing/publisher of the publisher wing"},
	{rule: "packages import only downwards, and never the other wing",
		files: map[string]string{"util/u.go": `package util`},
		want:  "package util has no room"},
	{rule: "packages import only downwards, and never the other wing",
		files: map[string]string{"agent/a.go": `package agent; import ("` + ourPath + `release"; "` + ourPath + `partitions/bootloader")`,
			"agent/a_test.go": `package agent; import "` + ourPath + `server"`}},
	{rule: "each outside dependency has one home",
		files: map[string]string{"agent/a.go": `package agent; import "github.com/google/renameio/v2"`},
		want:  "whose home is [internal/durable]"},
	{rule: "each outside dependency has one home",
		files: map[string]string{"signing/s.go": `package signing; import "github.com/theupdateframework/go-tuf/v2/metadata/updater"`},
		want:  "known defects"},
	{rule: "each outside dependency has one home",
		files: map[string]string{"agent/a.go": `package agent; import "github.com/spf13/afero"`},
		want:  "has no home"},
	{rule: "each outside dependency has one home",
		files: map[string]string{"release/r.go": `package release; import "pgregory.net/rapid"`},
		want:  "tests [...]"},
	{rule: "each outside dependency has one home",
		files: map[string]string{"release/r_test.go": `package release; import "pgregory.net/rapid"`,
			"signing/s.go":      `package signing; import "github.com/theupdateframework/go-tuf/v2/metadata"`,
			"signing/s_test.go": `package signing; import "github.com/theupdateframework/go-tuf/v2/metadata/updater"`}},
	{rule: "closures hold nothing they must not",
		graph: map[string][]string{ourPath + "agent/control": {"example.org/lib"}, "example.org/lib": {"net/http/httptrace"}},
		want:  "agent/control → example.org/lib → net/http/httptrace"},
	{rule: "closures hold nothing they must not",
		graph: map[string][]string{ourPath + "agent": {ourPath + "signing"}, ourPath + "signing": {"compress/gzip"}},
		want:  "signing → compress/gzip"},
	{rule: "closures hold nothing they must not",
		graph: map[string][]string{ourPath + "cmd/twinkeeld": {ourPath + "agent/writer"}, ourPath + "agent/writer": {ourPath + "deltas/diff"}},
		want:  "the binaries on a host holds"},
	{rule: "closures hold nothing they must not",
		graph: map[string][]string{ourPath + "agent": {"example.org/protobuf"}, "example.org/protobuf": {"compress/gzip"},
			ourPath + "cmd/twinkeeld": {ourPath + "agent/fetcher/child"}, ourPath + "agent/fetcher/child": {"net/http"}}},
	{rule: "test support is imported by tests only",
		files: map[string]string{"agent/a.go": `package agent; import "` + ourPath + `internal/sim"`},
		want:  "imports " + ourPath + "internal/sim"},
	{rule: "test support is imported by tests only",
		files: map[string]string{"agent/a.go": `package agent; import "testing"`},
		want:  "which is no test, imports testing"},
	{rule: "test support is imported by tests only",
		files: map[string]string{"agent/a_test.go": `package agent; import ("testing"; "` + ourPath + `internal/sim")`}},
	{rule: "the world outside is reached through seams",
		files: map[string]string{"agent/a.go": `package agent; import "time"; func now() int64 { return time.Now().Unix() }`},
		want:  "agent/a.go:1 uses time.Now: time belongs to the Clock"},
	{rule: "the world outside is reached through seams",
		files: map[string]string{"agent/a.go": `package agent; import t "time"; var clock = t.Now`},
		want:  "uses time.Now"},
	{rule: "the world outside is reached through seams",
		files: map[string]string{"signing/s.go": `package signing; import "os"; func f() { os.Remove("x") }`},
		want:  "uses os.Remove"},
	{rule: "the world outside is reached through seams",
		files: map[string]string{"deltas/d.go": `package deltas; import "math/rand/v2"; func f() int { return rand.IntN(3) }`},
		want:  "uses math/rand/v2.IntN"},
	{rule: "the world outside is reached through seams",
		files: map[string]string{"deltas/d.go": `package deltas; import . "os"; func f() { Remove("x") }`},
		want:  `imports os as "."`},
	{rule: "the world outside is reached through seams",
		files: map[string]string{"agent/a.go": `package agent; import ("os"; "time"); type r struct { f *os.File; d time.Duration }`,
			"cmd/twinkeel/m.go": `package main; import "os"; func f() { os.Exit(1) }`}},
	{rule: "no cgo",
		files: map[string]string{"agent/a.go": `package agent; import "C"`},
		want:  "uses cgo"},
	{rule: "every package has a doc.go with its comment",
		files: map[string]string{"agent/doc.go": "package agent"},
		want:  "package agent has no comment"},
	{rule: "every package has a doc.go with its comment",
		files: map[string]string{"agent/doc.go": "// Agents are good.\npackage agent"},
		want:  "does not begin with"},
	{rule: "every package has a doc.go with its comment",
		files: map[string]string{"agent/a.go": "// Package agent is.\npackage agent"},
		want:  "belongs into doc.go"},
	{rule: "files and functions stay small",
		files: map[string]string{"agent/a.go": "package agent\n" + strings.Repeat("\n", maxFile)},
		want:  "got 401 lines, want at most 400"},
	{rule: "files and functions stay small",
		files: map[string]string{"agent/a.go": "package agent\nfunc f() {" + strings.Repeat("\n", maxFunc) + "}"},
		want:  "f has 81 lines"},
	{rule: "files and functions stay small",
		files: map[string]string{"agent/a.go": "package agent\nfunc f() {" + strings.Repeat("\n", maxFunc-1) + "}",
			"agent/a_test.go": "package agent\n" + strings.Repeat("\n", maxFile)}},
	{rule: "no init and no mutable package state",
		files: map[string]string{"agent/a.go": "package agent\nfunc init() {}"},
		want:  "init runs unasked"},
	{rule: "no init and no mutable package state",
		files: map[string]string{"agent/a.go": "package agent\nvar count int"},
		want:  "variable count"},
	{rule: "no init and no mutable package state",
		files: map[string]string{"agent/a.go": "package agent\nvar cache = make(map[string]int)"},
		want:  "variable cache"},
	{rule: "no init and no mutable package state",
		files: map[string]string{"agent/a.go": "package agent\nvar table = [2]int{1}\nfunc f() { table[1] = 2 }"},
		want:  "variable table is written to"},
	{rule: "no init and no mutable package state",
		files: map[string]string{"agent/a.go": "package agent\nimport \"errors\"\nvar power = pow(3)\nvar squares = func() (t [9]int) { t[1] = 1; return }()\nvar ErrX = errors.New(\"x\")\nvar table = []int{1}\nvar magic = []byte(\"m\")\nvar _ I = (*T)(nil)\n//go:embed a\nvar a string"}},
	{rule: "exported signatures mention no outside dependency",
		files: map[string]string{"signing/s.go": `package signing; import "github.com/theupdateframework/go-tuf/v2/metadata"; func F() *metadata.RootType { return nil }`},
		want:  "an exported function mentions github.com/theupdateframework/go-tuf/v2/metadata.RootType"},
	{rule: "exported signatures mention no outside dependency",
		files: map[string]string{"agent/config/c.go": `package config; import "github.com/pelletier/go-toml/v2"; type T struct { D *toml.Decoder }`},
		want:  "an exported type mentions github.com/pelletier/go-toml/v2.Decoder"},
	{rule: "exported signatures mention no outside dependency",
		files: map[string]string{"agent/config/c.go": `package config; import "github.com/pelletier/go-toml/v2"; var D = toml.NewDecoder(nil)`},
		want:  "an exported value mentions"},
	{rule: "exported signatures mention no outside dependency",
		files: map[string]string{"signing/s.go": `package signing; import "github.com/theupdateframework/go-tuf/v2/metadata"; const Root = metadata.ROOT`}},
	{rule: "exported signatures mention no outside dependency",
		files: map[string]string{"agent/config/c.go": `package config; import ("io"; "github.com/pelletier/go-toml/v2"); type T struct { d *toml.Decoder }; func F(r io.Reader) { toml.NewDecoder(r) }; func (T) f(toml.Decoder) {}`}},
	{rule: "nothing is left to be done later in a comment",
		files: map[string]string{"agent/a.go": "package agent\n// TO" + "DO: think"},
		want:  "in a comment"},
}

func TestEveryRuleCanFail(t *testing.T) {
	bad := map[string]bool{}
	for _, e := range examples {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.name == e.rule })
		if i < 0 {
			t.Fatalf("example for a rule that does not exist: %s", e.rule)
		}
		fsys := fstest.MapFS{}
		for name, src := range e.files {
			fsys[name] = &fstest.MapFile{Data: []byte(src)}
		}
		tr, err := parse(module, fsys)
		if err != nil {
			t.Fatal(err)
		}
		tr.graph = e.graph
		found := rules[i].check(tr)
		bad[e.rule] = bad[e.rule] || e.want != ""
		switch {
		case e.want == "" && len(found) > 0:
			t.Errorf("%s: %v: got %q, want nothing", e.rule, e.files, found)
		case !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, e.want) }) && e.want != "":
			t.Errorf("%s: %v %v: got %q, want a finding with %q", e.rule, e.files, e.graph, found, e.want)
		}
	}
	for _, r := range rules {
		if !bad[r.name] {
			t.Errorf("rule without an example that breaks it: %s", r.name)
		}
	}
}

func TestTheHouseHasNoTwoPlansForOnePackage(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range house {
		if seen[r.path] || r.why == "" {
			t.Errorf("room %s stands twice or has no reason", r.path)
		}
		seen[r.path] = true
	}
	for _, h := range homes {
		if seen[h.module] || h.why == "" {
			t.Errorf("home of %s stands twice or has no reason", h.module)
		}
		seen[h.module] = true
	}
}
