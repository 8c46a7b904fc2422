package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
)

// What the exhaustive tests of package agent log of each story.
var (
	subsetLine = regexp.MustCompile(`subsets of (.+): (\d+) cuts, (\d+) states, at most (\d+) writes not flushed`)
	pairLine   = regexp.MustCompile(`two cuts of (.+): (\d+) pairs, one of (\d+)`)
)

// exhaustive runs the tests that take every cut of a few stories, and writes what they say.
// They take every two cuts only if all is set.
func exhaustive(ctx context.Context, w io.Writer, all bool) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout", "6h", "-v", "-run", "^TestEvery(SubsetOfWhatWasNotFlushed|TwoCuts)", "./agent")
	cmd.Env = os.Environ()
	if all {
		cmd.Env = append(cmd.Env, "TWINKEEL_LONG=1")
	}
	out, err := cmd.CombinedOutput()
	fmt.Fprint(w, "\n## Every cut of five stories\n\nAt each change to the world the power goes, and each subset of what was not flushed is what arrived.\n"+
		"Pairs are two such cuts, of which nothing, and then everything, that was not flushed arrived.\n\n"+
		"| story | cuts | states | most writes not flushed | pairs of cuts | of all pairs |\n| --- | --- | --- | --- | --- | --- |\n")
	pairs := map[string][2]string{}
	for _, m := range pairLine.FindAllSubmatch(out, -1) {
		pairs[string(m[1])] = [2]string{string(m[2]), "one of " + string(m[3])}
	}
	for _, m := range subsetLine.FindAllSubmatch(out, -1) {
		p := pairs[string(m[1])]
		if p[1] == "one of 1" {
			p[1] = "all"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", m[1], m[2], m[3], m[4], p[0], p[1])
	}
	if err != nil {
		return fmt.Errorf("every cut: %w\n%s", err, out)
	}
	return nil
}
