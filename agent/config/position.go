package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// place is where a key was set.
type place struct {
	file  string
	order int // of the file
	line  int
}

// problem is one thing that is wrong in a file.
type problem struct {
	at   place
	key  string
	text string
}

// Error returns "file:line: key: text".
func (p problem) Error() string {
	if p.at.line == 0 {
		return fmt.Sprintf("%s: %s: %s", p.at.file, p.key, p.text)
	}
	return fmt.Sprintf("%s:%d: %s: %s", p.at.file, p.at.line, p.key, p.text)
}

func (p problem) before(q problem) bool {
	if p.at.order != q.at.order {
		return p.at.order < q.at.order
	}
	return p.at.line < q.at.line
}

// positions returns the line of every key of a document that was already parsed, with
// the tables of an array numbered: "health.probe[0].name".
func positions(data []byte) map[string]int {
	lines := map[string]int{}
	count := map[string]int{}
	var p unstable.Parser
	p.Reset(data)
	prefix := ""
	// line counts on from the previous expression: documents are read once.
	line, offset := 1, 0
	for p.NextExpression() {
		e := p.Expression()
		key, at := keyOf(e)
		if at >= offset {
			line += strings.Count(string(data[offset:at]), "\n")
			offset = at
		}
		switch e.Kind {
		case unstable.Table:
			prefix = key
			lines[prefix] = line
		case unstable.ArrayTable:
			prefix = key + "[" + strconv.Itoa(count[key]) + "]"
			count[key]++
			lines[prefix] = line
			if _, ok := lines[key]; !ok {
				lines[key] = line
			}
		case unstable.KeyValue:
			key = join(prefix, key)
			lines[key] = line
		}
		// A table that a dotted key implies stands where it is first mentioned.
		for i, c := range key {
			if c == '.' {
				if _, ok := lines[key[:i]]; !ok {
					lines[key[:i]] = line
				}
			}
		}
	}
	return lines
}

// keyOf returns the dotted key of an expression and the offset at which it stands.
func keyOf(e *unstable.Node) (key string, offset int) {
	var parts []string
	for it := e.Key(); it.Next(); {
		if len(parts) == 0 {
			offset = int(it.Node().Raw.Offset)
		}
		parts = append(parts, string(it.Node().Data))
	}
	return strings.Join(parts, "."), offset
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}
