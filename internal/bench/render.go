package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const foreword = `# Deltas beside other tools

Written by ` + "`make bench-delta`" + `; do not edit. What it does: [internal/bench](../internal/bench/doc.go);
what the figures mean: [bench-delta.md](bench-delta.md). CPU is user and system, in seconds; memory is the
largest resident set, in MiB; making a delta of ours includes verifying it by applying. HDiffPatch
is ` + "`hdiffz -m-1 -SD -c-lzma2-9-32m`" + `, measured elsewhere on the same bytes and kept by digest.
`

// elsewhere is the name of the tool that is in no package registry.
const elsewhere = "HDiffPatch"

// render writes the tables of all pairs that were measured.
func render(results map[string]measured, facts string) (string, error) {
	known, err := parseFacts(facts)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(foreword)
	for _, p := range pairs {
		m, ok := results[p.name]
		if !ok {
			continue
		}
		rows := map[string]result{}
		for name, r := range m.Tools {
			rows[name] = r
		}
		reference, hasReference := known[m.Old+m.New]
		if hasReference {
			rows[elsewhere] = reference
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s. %d bytes (`%s`) to %d bytes (`%s`).\n\n", p.name, p.what, m.OldSize, m.Old[:16], m.NewSize, m.New[:16])
		b.WriteString("| tool | bytes | of HDiffPatch | of the full image | make: CPU, memory | apply: CPU, memory |\n|---|---|---|---|---|---|\n")
		names := make([]string, 0, len(rows))
		for name := range rows {
			names = append(names, name)
		}
		slices.SortFunc(names, func(x, y string) int {
			if rows[x].Bytes != rows[y].Bytes {
				return int(rows[x].Bytes - rows[y].Bytes)
			}
			return strings.Compare(x, y)
		})
		full := m.Tools["twinkeel, full image"].Bytes
		for _, name := range names {
			r := rows[name]
			apply := ""
			if r.Apply != nil {
				apply = fmt.Sprintf("%.2f, %d", r.Apply.CPU, r.Apply.MiB)
			}
			fmt.Fprintf(&b, "| %s | %d | %s | %s | %.2f, %d | %s |\n", name, r.Bytes,
				ratio(r.Bytes, reference.Bytes), ratio(r.Bytes, full), r.Make.CPU, r.Make.MiB, apply)
		}
	}
	return b.String(), nil
}

func ratio(a, b int64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.3f", float64(a)/float64(b))
}

// parseFacts reads hdiffpatch.tsv: digests of old and new, joined, to what was measured.
func parseFacts(text string) (map[string]result, error) {
	known := map[string]result{}
	for i, line := range strings.Split(strings.TrimSpace(text), "\n")[1:] {
		f := strings.Split(line, "\t")
		if len(f) < 7 {
			return nil, fmt.Errorf("hdiffpatch.tsv: line %d: got %d fields, want 7 or more", i+2, len(f))
		}
		var n [5]float64
		for k := range n {
			var err error
			if n[k], err = strconv.ParseFloat(f[2+k], 64); err != nil {
				return nil, fmt.Errorf("hdiffpatch.tsv: line %d: %w", i+2, err)
			}
		}
		known[f[0]+f[1]] = result{Bytes: int64(n[0]), Make: cost{n[1], int64(n[2])}, Apply: &cost{n[3], int64(n[4])}}
	}
	return known, nil
}
