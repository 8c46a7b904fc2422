package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// parser applies sources to a Config and collects what is wrong with them.
type parser struct {
	config   *Config
	set      map[string]place // where each key was set last
	problems []problem
	main     string // the first file

	file  string
	order int
	lines map[string]int // of the current file
}

// source applies one file. A file that is no TOML ends the parsing; all else is
// collected.
func (p *parser) source(s Source) error {
	var tree map[string]any
	if err := toml.Unmarshal(s.Data, &tree); err != nil {
		var d *toml.DecodeError
		if errors.As(err, &d) {
			row, col := d.Position()
			return fmt.Errorf("%s:%d:%d: %s", s.Name, row, col, strings.TrimPrefix(d.Error(), "toml: "))
		}
		return fmt.Errorf("%s: %s", s.Name, strings.TrimPrefix(err.Error(), "toml: "))
	}
	if p.order == 0 {
		p.main = s.Name
	}
	p.file, p.lines = s.Name, positions(s.Data)
	p.order++
	p.table("", tree)
	return nil
}

// table applies a table whose keys stand in keys under their full names.
func (p *parser) table(prefix string, t map[string]any) {
	for _, name := range sortedKeys(t) {
		p.key(join(prefix, name), name, t[name])
	}
}

func (p *parser) key(key, name string, v any) {
	if strings.ContainsAny(name, ".[") {
		// A quoted key: "boot.tries" is not [boot] tries.
		p.fail(key, "unknown key")
		return
	}
	p.set[key] = p.place(key)
	if set, ok := keys[key]; ok {
		if err := set(p.config, v); err != nil {
			p.fail(key, err.Error())
		}
		return
	}
	if sub, isTable := v.(map[string]any); isTable && isSection(key) {
		p.table(key, sub)
		return
	}
	if isSection(key) {
		p.fail(key, fmt.Sprintf("got %s, want a table", kindOf(v)))
		return
	}
	switch slot, image, _ := strings.Cut(strings.TrimPrefix(key, "slots."), "."); {
	case strings.HasPrefix(key, "slots.") && (slot == "a" || slot == "b") && image == name:
		p.partition(key, slot, image, v)
	case key == "health.probe":
		p.probes(v)
	case key == "app":
		p.apps(v)
	default:
		p.fail(key, "unknown key"+nearest(key))
	}
}

func isSection(key string) bool {
	switch key {
	case "slots", "slots.a", "slots.b", "boot", "poll", "update", "health", "apps":
		return true
	}
	return false
}

// place returns where key stands in the current file: the key itself, or the nearest
// key around it that has a line of its own.
func (p *parser) place(key string) place {
	for k := key; ; {
		if line, ok := p.lines[k]; ok {
			return place{p.file, p.order, line}
		}
		i := strings.LastIndexAny(k, ".[")
		if i < 0 {
			return place{p.file, p.order, 0}
		}
		k = k[:i]
	}
}

func (p *parser) fail(key, text string) {
	p.problems = append(p.problems, problem{p.place(key), key, text})
}

// failSet is fail for a key that may have been set in an earlier file, or nowhere: then
// the main file lacks it.
func (p *parser) failSet(key, text string) {
	at, ok := p.set[key]
	if !ok {
		at = place{file: p.main, order: 1}
	}
	p.problems = append(p.problems, problem{at, key, text})
}

// kindOf names the TOML type of v.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	case time.Time, toml.LocalDate, toml.LocalTime, toml.LocalDateTime:
		return "a date or time"
	}
	return "something else"
}

// nearest suggests the known key that was probably meant.
func nearest(key string) string {
	best, bestDistance := "", 3
	for _, k := range sortedKeys(keys) {
		if d := distance(strings.ToLower(key), strings.ToLower(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; is %q meant?", best)
}

// distance is the number of letters to insert, delete or replace between a and b.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			corner = row[j+1]
			row[j+1] = min(cost, row[j]+1, corner+1)
		}
	}
	return row[len(b)]
}
