package floors

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// threat is how docs/THREATMODEL.md names a test: package, function, and the case.
var threat = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)(?:/([^`]+))?`")

// TestEveryAttackInTheThreatModelHasATest: what the table of attacks names is there.
func TestEveryAttackInTheThreatModelHasATest(t *testing.T) {
	root := filepath.Join("..", "..")
	b, err := os.ReadFile(filepath.Join(root, "docs", "THREATMODEL.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(b), "## Attacks, and the tests that make them")
	if !ok {
		t.Fatal("the table of attacks is gone")
	}
	rows, names := 0, 0
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "## ") {
			break
		}
		found := threat.FindAllStringSubmatch(line, -1)
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| attack ") && !strings.HasPrefix(line, "| --- ") {
			if rows++; len(found) == 0 {
				t.Errorf("no test is named: %s", line)
			}
		}
		for _, f := range found {
			names++
			if problem := lookFor(root, f[1], f[2], f[3]); problem != "" {
				t.Errorf("%s: %s", f[0], problem)
			}
		}
	}
	if rows < 50 || names < 90 {
		t.Errorf("got %d attacks and %d tests: the table was not understood", rows, names)
	}
}

// lookFor says what is missing of a test: the function, or the case as a string.
func lookFor(root, pkg, function, name string) string {
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil || len(files) == 0 {
		return "the package has no tests"
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err.Error()
		}
		all.Write(b)
	}
	switch text := all.String(); {
	case !strings.Contains(text, "func "+function+"("):
		return "there is no such test"
	case name != "" && !strings.Contains(text, `"`+name+`"`):
		return "the test has no such case"
	}
	return ""
}
