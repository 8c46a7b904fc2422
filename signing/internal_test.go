package signing

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/twinkeel/twinkeel/signing/signingtest"
)

// FuzzFloor: what decodes encodes to something that decodes to the same, and only bytes
// under the right checksum decode at all.
func FuzzFloor(f *testing.F) {
	s := noFloors()
	s.Sequence, s.Root = 7, 3
	s.Roles["root/timestamp"] = roleFloor{Version: 9, Keys: "ab", SignedAt: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)}
	s.unknown = map[string]json.RawMessage{"later": []byte(`{"a":1}`)}
	b, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	_, body, _ := bytes.Cut(b, []byte("\n"))
	f.Add(body)
	f.Add([]byte(`{"format":1,"root":-1}`))
	f.Add([]byte(`{"format":1,"roles":{"x":{"version":1e3}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeFloor(b)
		// Past the checksum, which chance does not find.
		s, err := decodeFloor(floorFile(b))
		if err != nil {
			return
		}
		again, err := s.encode()
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		s2, err := decodeFloor(again)
		if err != nil {
			t.Fatalf("decode again: %v", err)
		}
		if again2, err := s2.encode(); err != nil || !bytes.Equal(again, again2) {
			t.Fatalf("got %s, then %s, %v", again, again2, err)
		}
	})
}

func TestFloorChangedInAnyBitIsNotRead(t *testing.T) {
	s := noFloors()
	s.Root = 5
	b, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeFloor(b); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for bit := range 8 {
			c := bytes.Clone(b)
			c[i] ^= 1 << bit
			if _, err := decodeFloor(c); err == nil {
				t.Fatalf("bit %d of byte %d: was not noticed", bit, i)
			}
		}
		if _, err := decodeFloor(b[:i]); err == nil {
			t.Fatalf("cut at %d: was not noticed", i)
		}
	}
}

func TestScan(t *testing.T) {
	for _, c := range []struct {
		in            string
		strict, loose bool // accepted
	}{
		{`{}`, true, true}, {` {"a" : [1, 2.5e3, "x\n", true, false] } `, true, true}, {`"\u00e9"`, true, true},
		{`{"a":1,"a":2}`, false, false}, {`{"a":1,"\u0061":2}`, false, false}, {`{"a":{"b":1},"c":{"b":1}}`, true, true},
		{`{"a":1,"A":2}`, false, true}, {"{\"s\":1,\"\u017f\":2}", false, true}, {"{\"k\":1,\"\u212a\":2}", false, true},
		{`null`, false, true}, {`{"a":[null]}`, false, true},
		{strings.Repeat("[", 16) + strings.Repeat("]", 16), true, true}, {strings.Repeat("[", 17) + strings.Repeat("]", 17), false, false},
		{strings.Repeat("1", 24), true, true}, {strings.Repeat("1", 25), false, false},
		{`{} {}`, false, false}, {`{}x`, false, false}, {``, false, false}, {`{`, false, false}, {`{"a"`, false, false},
		{`{"a":`, false, false}, {`[1`, false, false}, {`[1,`, false, false}, {`"a`, false, false}, {`"a\`, false, false},
		{"\"\xff\"", false, false}, {`{1:2}`, false, false}, {`{"a":1 "b":2}`, false, false}, {`nul`, false, false},
		{many(20, "a", "b"), true, true}, {many(20, "a", "A"), false, true}, {many(20, "a", "a"), false, false}, {many(20, "s", "\u017f"), false, true},
	} {
		if got := scan([]byte(c.in), true) == nil; got != c.strict {
			t.Errorf("%.40q strict: got accepted %v, want %v", c.in, got, c.strict)
		}
		if got := scan([]byte(c.in), false) == nil; got != c.loose {
			t.Errorf("%.40q: got accepted %v, want %v", c.in, got, c.loose)
		}
	}
}

// many is an object with n other names between two given ones.
func many(n int, first, last string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{%q:0`, first)
	for i := range n {
		fmt.Fprintf(&b, `,"name%d":0`, i)
	}
	fmt.Fprintf(&b, `,"%s":0}`, last)
	return b.String()
}

// FuzzScan compares scan with encoding/json: of well-formed text it must see the same
// nesting and names.
func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"c"}]}`, `{"a":1,"a":1}`, `{"\u0061":1,"a":1}`, `[[[["x"]]]]`, many(12, "a", "a"), `"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := scan(b, false)
		if !json.Valid(b) {
			return
		}
		depth, twice := inspect(b)
		refuse := depth > maxDepth || twice
		if err == nil && refuse {
			t.Fatalf("%q: was accepted with depth %d, a name twice: %v", b, depth, twice)
		}
		if err != nil && !refuse && !strings.Contains(err.Error(), "UTF-8") && !strings.Contains(err.Error(), "number of") {
			t.Fatalf("%q: %v", b, err)
		}
	})
}

// inspect finds depth and repeated names by encoding/json's own tokens.
func inspect(b []byte) (deepest int, twice bool) {
	type level struct {
		names map[string]bool // nil in an array
		key   bool
	}
	var stack []level
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	for {
		tok, err := d.Token()
		if err != nil {
			return deepest, twice
		}
		top := len(stack) - 1
		if delim, ok := tok.(json.Delim); ok && (delim == '}' || delim == ']') {
			stack = stack[:top]
			continue
		}
		if top >= 0 && stack[top].names != nil {
			if stack[top].key = !stack[top].key; stack[top].key {
				name := tok.(string)
				twice = twice || stack[top].names[name]
				stack[top].names[name] = true
				continue
			}
		}
		switch tok {
		case json.Delim('{'):
			stack = append(stack, level{names: map[string]bool{}})
		case json.Delim('['):
			stack = append(stack, level{})
		}
		deepest = max(deepest, len(stack))
	}
}

func TestNamesOfRolesAndTargets(t *testing.T) {
	for name, want := range map[string]bool{
		"os-stable": true, "fleet-a.b_c-1": true, "app": true, "os-" + strings.Repeat("a", 64): true,
		"": false, "-x": false, "os-": false, "os--x": false, "Os": false, "a/b": false, ".a": false, "root": false,
		"timestamp": false, "a b": false, strings.Repeat("a", 65): false, "os-" + strings.Repeat("a", 65): false, "a%": false,
	} {
		if got := CheckRoleName(name) == nil; got != want {
			t.Errorf("role %q: got allowed %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]bool{
		"os/stable/example-amd64/1.json": true, "a": true, "a/b.c_d-e": true,
		"": false, "/a": false, "a/": false, "a//b": false, "./a": false, "a/..": false, "a\\b": false, "a\x00": false, "A": false,
		strings.Repeat("a/", 256) + "a": false,
	} {
		if got := CheckTargetName(name) == nil; got != want {
			t.Errorf("target %q: got allowed %v, want %v", name, got, want)
		}
	}
}

func TestRoleFilesNeverCollideNorEscape(t *testing.T) {
	seen := map[string]string{}
	for _, role := range []string{"os-stable", "a/b", "a%2Fb", "..", ".", "", "a?b", "a#b", "a\x00b", strings.Repeat("x", 300), strings.Repeat("/", 80), "A", "a"} {
		f := roleFile(role)
		if other, ok := seen[f]; ok {
			t.Errorf("%q and %q: same file %s", role, other, f)
		}
		seen[f] = role
		if strings.ContainsAny(f, "/\x00") || len(f) > 200 || !isRoleFile(f) {
			t.Errorf("%q: got file %q", role, f)
		}
	}
}

func TestKeyringCountsKeysThatDiffer(t *testing.T) {
	r := signingtest.New(time.Unix(0, 0))
	a, b := r.NewKey("a"), r.NewKey("b")
	key := func(k signingtest.Key) *metadata.Key {
		return &metadata.Key{Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: k.Doc["keyval"].(signingtest.Doc)["public"].(string)}}
	}
	keys := map[string]*metadata.Key{"1": key(a), "2": key(a), "3": key(b)}
	for _, c := range []struct {
		ids       []string
		threshold int
		good      bool
	}{
		{[]string{"1"}, 1, true}, {[]string{"1", "3"}, 2, true}, {[]string{"1", "2"}, 1, true},
		{[]string{"1", "2"}, 2, false}, {[]string{"1", "1"}, 2, false}, {nil, 1, false}, {[]string{"1"}, 0, false}, {[]string{"4"}, 1, false},
	} {
		if err := (keyring{keys, c.ids, c.threshold}).check("x"); c.good != (err == nil) {
			t.Errorf("%q, threshold %d: got %v", c.ids, c.threshold, err)
		}
	}
	one, err := keySetID(keyring{keys, []string{"3", "1"}, 1})
	two, err2 := keySetID(keyring{keys, []string{"2", "1", "3"}, 2})
	if err != nil || err2 != nil || one != two {
		t.Errorf("the same keys in another order, under other names and with another threshold: got %s and %s", one, two)
	}
}
