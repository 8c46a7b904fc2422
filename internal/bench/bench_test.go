package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryPairIsNamedOnceAndCanBeChosen(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range pairs {
		if seen[p.name] {
			t.Errorf("pair %s stands twice", p.name)
		}
		seen[p.name] = true
		if got, err := choose(p.name); err != nil || len(got) != 1 || got[0] != p {
			t.Errorf("choose %s: got %v, %v", p.name, got, err)
		}
	}
	if all, err := choose(""); err != nil || len(all) != len(pairs) {
		t.Errorf("choose all: got %d, %v", len(all), err)
	}
	if _, err := choose("esbuild,nonsense"); err == nil {
		t.Error("a pair that is not there: accepted")
	}
}

func TestTablesSortByBytesAndUseFactsOfTheSameDigestsOnly(t *testing.T) {
	old, new := strings.Repeat("a", 64), strings.Repeat("b", 64)
	results := map[string]measured{"node": {Old: old, New: new, OldSize: 9, NewSize: 10, Tools: map[string]result{
		"twinkeel": {Bytes: 300}, "bsdiff": {Bytes: 150}, "twinkeel, full image": {Bytes: 600}}}}
	facts := "header\n" + old + "\t" + new + "\t200\t1.5\t2\t0.1\t3\n"
	got, err := render(results, facts)
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for _, row := range []string{"| bsdiff | 150 | 0.750 | 0.250 |", "| HDiffPatch | 200 | 1.000 | 0.333 | 1.50, 2 | 0.10, 3 |", "| twinkeel | 300 | 1.500 | 0.500 |"} {
		next := strings.Index(got, row)
		if next <= at {
			t.Errorf("%q is not there, or not behind the row before it, in\n%s", row, got)
		}
		at = next
	}
	facts = "header\n" + new + "\t" + old + "\t200\t1.5\t2\t0.1\t3\n"
	if got, err := render(results, facts); err != nil || strings.Contains(got, "| HDiffPatch") {
		t.Errorf("facts of other files are shown: %v", err)
	}
	if _, err := render(results, "header\nshort\n"); err == nil {
		t.Error("a damaged table of facts: accepted")
	}
	if _, err := parseFacts(hdiffpatch); err != nil {
		t.Error(err)
	}
}

func TestAToolWhoseOutputDiffersEndsTheRun(t *testing.T) {
	dir := t.TempDir()
	j := job{old: filepath.Join(dir, "old"), new: filepath.Join(dir, "new"), dir: dir}
	for path, text := range map[string]string{j.old: "old", j.new: "something new"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shell := func(apply string) tool {
		return tool{make: func(j job) []string { return []string{"cp", j.new, j.delta} },
			apply: func(j job) []string { return []string{"sh", "-c", apply, "sh", j.delta, j.out} }}
	}
	r, err := measure(t.Context(), shell(`cp "$1" "$2"`), j)
	if err != nil || r.Bytes != int64(len("something new")) || r.Apply == nil || r.Make.MiB == 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	for name, apply := range map[string]string{"other": `echo something old >"$2"`, "longer": `(cat "$1"; echo more) >"$2"`, "short": `head -c 5 "$1" >"$2"`, "fails": "exit 3", "nothing": "true"} {
		if _, err := measure(t.Context(), shell(apply), j); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
