package signingtest

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// odd are values that parsers have tripped over.
var odd = []string{
	`null`, `true`, `0`, `-1`, `1`, `2147483647`, `2147483648`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775809`,
	`1e400`, `1.5`, `""`, `" "`, `"0"`, `".."`, `"../x"`, `"/"`, `"a//b"`, `"\u0000"`, `"\ud800"`, `"K"`, `"9999-12-31T23:59:59Z"`,
	`"0000-01-01T00:00:00Z"`, `"zz"`, `"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"`, `[]`, `{}`, `[null]`, `{"":null}`,
	`[[[[]]]]`, `"root"`, `"targets"`, `"os-stable"`, `"sha512"`,
}

// Mutate returns a copy of a JSON value that steps have changed: each takes four bytes,
// two that choose a place, one for what happens there and one for the value. It keeps
// the structure, so that what is signed afterwards reaches the code behind the
// signature.
func Mutate(v any, steps []byte) any {
	v = plain(v)
	for ; len(steps) >= 4 && len(steps) <= 64; steps = steps[4:] {
		v = mutate(v, int(steps[0]), int(steps[1]), steps[2], int(steps[3]))
	}
	return v
}

// plain is v as encoding/json reads it back.
func plain(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var out any
	if d.Decode(&out) != nil {
		return nil
	}
	return out
}

func oddValue(n int) any {
	d := json.NewDecoder(strings.NewReader(odd[n%len(odd)]))
	d.UseNumber()
	var v any
	_ = d.Decode(&v) // null, when it does not decode
	return v
}

// mutate walks down: at each level choice picks the element, and depth how far it goes.
func mutate(v any, choice, depth int, what byte, value int) any {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			return oddValue(value)
		}
		keys := slices.Sorted(maps.Keys(v))
		k := keys[choice%len(keys)]
		if depth%8 > 0 {
			v[k] = mutate(v[k], choice/len(keys)+choice*7, depth-1, what, value)
			return v
		}
		switch what % 4 {
		case 0:
			v[k] = oddValue(value)
		case 1:
			delete(v, k)
		case 2:
			v[odd[value%len(odd)]] = v[k]
		default:
			v[k] = v[keys[value%len(keys)]]
		}
		return v
	case []any:
		if len(v) == 0 {
			return []any{oddValue(value)}
		}
		i := choice % len(v)
		if depth%8 > 0 {
			v[i] = mutate(v[i], choice/len(v)+choice*7, depth-1, what, value)
			return v
		}
		switch what % 4 {
		case 0:
			v[i] = oddValue(value)
		case 1:
			return slices.Delete(v, i, i+1)
		case 2:
			return append(v, plain(v[i]))
		default:
			j := value % len(v)
			v[i], v[j] = v[j], v[i]
		}
		return v
	}
	return oddValue(value)
}
