package probes

import (
	"fmt"
	"sort"
	"strings"
)

// Result is the answer of one probe.
type Result struct {
	Name string
	Open bool
	Said string
}

// Parse reads the command's output. Probes that are missing in it are open; lines of
// others, and second answers, are an error.
func Parse(out string) ([]Result, error) {
	results := make([]Result, len(All))
	at := map[string]int{}
	for i, p := range All {
		at[p.Name] = i
		results[i] = Result{Name: p.Name, Open: true, Said: "no answer"}
	}
	answered := map[string]bool{}
	for line := range strings.Lines(out) {
		fields := strings.SplitN(strings.TrimRight(line, "\n"), "\t", 3)
		if len(fields) != 3 {
			continue // a program's own output
		}
		i, ok := at[fields[0]]
		if !ok || answered[fields[0]] || fields[1] != "open" && fields[1] != "closed" {
			return nil, fmt.Errorf("answer %q: got an unknown probe, a second answer, or neither open nor closed", line)
		}
		answered[fields[0]] = true
		results[i] = Result{Name: fields[0], Open: fields[1] == "open", Said: fields[2]}
	}
	return results, nil
}

// Judge returns what results leave open, and an error if that is more than e allows.
func (e Expectation) Judge(results []Result) (open []Result, err error) {
	var surprises []string
	for _, r := range results {
		if !r.Open {
			continue
		}
		open = append(open, r)
		if _, ok := e.Known[r.Name]; !ok {
			surprises = append(surprises, r.Name+" ("+r.Said+")")
		}
	}
	sort.Strings(surprises)
	switch {
	case len(surprises) > 0:
		return open, fmt.Errorf("open although nobody allowed it: %s", strings.Join(surprises, ", "))
	case len(open) > e.Most:
		return open, fmt.Errorf("open: got %d, want at most %d", len(open), e.Most)
	}
	return open, nil
}
