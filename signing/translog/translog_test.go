package translog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/release"
)

// disk is a Source.
type disk map[string][]byte

func (d disk) Fetch(_ context.Context, path string, limit int64) ([]byte, error) {
	b, ok := d[path]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", path, fs.ErrNotExist)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("get %s: more than %d bytes", path, limit)
	}
	return b, nil
}

func (d disk) clone() disk {
	c := disk{}
	for k, v := range d {
		c[k] = bytes.Clone(v)
	}
	return c
}

const origin = "example.net/releases"

func entry(n int, channel string) Entry {
	v, err := release.ParseVersion(fmt.Sprintf("1.%d", n))
	if err != nil {
		panic(err)
	}
	return Entry{Channel: channel, Compatible: "example-amd64", Version: v, Manifest: release.DigestOf(fmt.Append(nil, n))}
}

func entriesOf(from, to int) (list []Entry) {
	for n := from; n < to; n++ {
		list = append(list, entry(n, "stable"))
	}
	return list
}

// grow appends entries and keeps the files.
func (d disk) grow(t interface {
	Helper()
	Fatal(...any)
}, c Checkpoint, entries []Entry) Checkpoint {
	t.Helper()
	files, next, err := At(context.Background(), d, c).Append(entries)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		d[f.Path] = f.Data
	}
	return next
}

func signer(seed string) (Signer, string) {
	sum := sha256.Sum256([]byte(seed))
	key := ed25519.NewKeyFromSeed(sum[:])
	text, err := Key(origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return Signer{text, func(b []byte) ([]byte, error) { return ed25519.Sign(key, b), nil }}, text
}

func TestEveryPrefixIsExtendedAndEveryEntryFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, c := disk{}, Empty(origin)
		history := []Checkpoint{c}
		total := 0
		for range rapid.IntRange(1, 6).Draw(t, "appends") {
			n := rapid.SampledFrom([]int{1, 2, 3, 7, 100, 255, 256, 300}).Draw(t, "entries")
			c = d.grow(t, c, entriesOf(total, total+n))
			total += n
			history = append(history, c)
		}
		for _, old := range history {
			if err := At(t.Context(), d, c).Extends(old); err != nil {
				t.Fatalf("%d extends %d: %v", c.Size, old.Size, err)
			}
		}
		for _, n := range []int{0, total / 2, total - 1, rapid.IntRange(0, total-1).Draw(t, "entry")} {
			at, err := At(t.Context(), d, c).Find(entry(n, "stable").Leaf())
			if err != nil || at != int64(n) {
				t.Fatalf("entry %d: got %d, %v", n, at, err)
			}
		}
		seen := 0
		if err := At(t.Context(), d, c).Entries(0, func(i int64, e Entry) error {
			if e != entry(int(i), "stable") {
				t.Fatalf("entry %d: got %s", i, e)
			}
			seen++
			return nil
		}); err != nil || seen != total {
			t.Fatalf("entries: got %d of %d, %v", seen, total, err)
		}
	})
}

func TestTreeIsTheOneOfTheLibrary(t *testing.T) {
	d := disk{}
	c := d.grow(t, d.grow(t, Empty(origin), entriesOf(0, 300)), entriesOf(300, 777))
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) (list []tlog.Hash, err error) {
		for _, i := range indexes {
			list = append(list, stored[i])
		}
		return list, nil
	})
	for n, e := range entriesOf(0, 777) {
		h, err := tlog.StoredHashes(int64(n), e.Encode(), read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, h...)
	}
	want, err := tlog.TreeHash(777, read)
	if err != nil || release.Digest(want) != c.Root {
		t.Fatalf("got %s, want %s, %v", c.Root, want, err)
	}
	for _, path := range []string{"log/tile/0/000", "log/tile/0/003.p/9", "log/tile/1/000.p/3", "log/tile/entries/003.p/9"} {
		if d[path] == nil {
			t.Errorf("%s: is missing", path)
		}
	}
	for _, path := range c.Files(true) {
		if d[path] == nil {
			t.Errorf("%s: is listed and missing", path)
		}
	}
}

// Any bit of any file of the log that is read for an answer makes it an error.
func TestFlippedBitNeverProvesAnything(t *testing.T) {
	honest := disk{}
	old := honest.grow(t, Empty(origin), entriesOf(0, 100))
	c := honest.grow(t, old, entriesOf(100, 600))
	used := honest.clone()
	var paths []string
	record := func(ctx context.Context, path string, limit int64) ([]byte, error) {
		paths = append(paths, path)
		return used.Fetch(ctx, path, limit)
	}
	ask := func(src Source) error {
		v := At(t.Context(), src, c)
		_, err := v.Find(entry(300, "stable").Leaf())
		return errors.Join(err, v.Extends(old))
	}
	if err := ask(sourceFunc(record)); err != nil {
		t.Fatal(err)
	}
	if len(paths) < 4 {
		t.Fatalf("read only %q", paths)
	}
	for _, path := range paths {
		for _, at := range []int{0, len(honest[path]) / 2, len(honest[path]) - 1} {
			d := honest.clone()
			d[path][at] ^= 4
			if ask(d) == nil {
				t.Errorf("%s: byte %d flipped: nothing was noticed", path, at)
			}
		}
		d := honest.clone()
		delete(d, path)
		if err := ask(d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: missing: got %v, want %v", path, err, fs.ErrNotExist)
		}
		d[path] = honest[path][:len(honest[path])/2]
		if ask(d) == nil {
			t.Errorf("%s: cut: nothing was noticed", path)
		}
	}
}

type sourceFunc func(ctx context.Context, path string, limit int64) ([]byte, error)

func (f sourceFunc) Fetch(ctx context.Context, path string, limit int64) ([]byte, error) {
	return f(ctx, path, limit)
}

func TestForkShrinkAndForeignLogAreNoExtension(t *testing.T) {
	d := disk{}
	old := d.grow(t, Empty(origin), entriesOf(0, 5))
	fork := d.clone()
	good := d.grow(t, old, entriesOf(5, 9))
	forked := fork.grow(t, old, entriesOf(6, 10))
	rewritten := disk{}
	other := rewritten.grow(t, Empty(origin), entriesOf(1, 12))
	for name, c := range map[string]struct {
		src      disk
		old, new Checkpoint
		want     string
	}{
		"fork of the same size": {fork, good, forked, "forked: two different trees"},
		"rewritten from start":  {rewritten, good, other, "forked: its first 9 entries"},
		"shrunk":                {d, good, old, "shrank"},
		"another log":           {d, Checkpoint{"elsewhere", 5, old.Root}, good, "does not extend"},
		"giant tree":            {d, good, Checkpoint{origin, MaxSize, good.Root}, "file does not exist"},
	} {
		err := At(t.Context(), c.src, c.new).Extends(c.old)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestPartialTileMayBeReplacedByTheFullOne(t *testing.T) {
	d := disk{}
	early := d.grow(t, Empty(origin), entriesOf(0, 200))
	d.grow(t, early, entriesOf(200, 256))
	delete(d, "log/tile/0/000.p/200")
	delete(d, "log/tile/entries/000.p/200")
	v := At(t.Context(), d, early)
	if _, err := v.Find(entry(7, "stable").Leaf()); err != nil {
		t.Error(err)
	}
	if err := v.Entries(190, func(int64, Entry) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestEntryOfAnotherChannelIsAnotherLeaf(t *testing.T) {
	d := disk{}
	c := d.grow(t, Empty(origin), []Entry{entry(1, "edge")})
	leaf := entry(1, "stable").Leaf()
	d[IndexPath(leaf)] = []byte("0\n")
	if _, err := At(t.Context(), d, c).Find(leaf); err == nil || !strings.Contains(err.Error(), "is another one") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestCheckpointIsOnlyTakenFromItsLogAndKey(t *testing.T) {
	good, key := signer("log")
	stranger, _ := signer("stranger")
	policy := Policy{Mode: Require, Origin: origin, Keys: []string{key}}
	c := Checkpoint{origin, 7, release.DigestOf([]byte("x"))}
	seal := func(c Checkpoint, s ...Signer) []byte {
		b, err := c.Seal(s...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, b := range [][]byte{seal(c, good), seal(c, stranger, good)} {
		got, err := OpenCheckpoint(b, policy)
		if err != nil || got != c {
			t.Errorf("got %+v, %v, want %+v", got, err, c)
		}
		if kept, err := Remembered(string(b)); err != nil || kept != c {
			t.Errorf("remembered: got %+v, %v", kept, err)
		}
	}
	unsigned := []byte(c.text() + "\n")
	text := string(seal(c, good))
	for name, b := range map[string][]byte{
		"wrong key": seal(c, stranger), "unsigned": unsigned, "empty": nil,
		"other size":    []byte(strings.Replace(text, "\n7\n", "\n8\n", 1)),
		"other origin":  seal(Checkpoint{"elsewhere", 7, c.Root}, good),
		"negative size": seal(Checkpoint{origin, -7, c.Root}, good),
		"giant size":    seal(Checkpoint{origin, MaxSize + 1, c.Root}, good),
		"empty, rooted": seal(Checkpoint{origin, 0, c.Root}, good),
		"too long":      append([]byte(text), bytes.Repeat([]byte("x"), MaxCheckpoint)...),
		"no signature":  []byte(strings.Replace(text, "\u2014", "-", 1)),
	} {
		if got, err := OpenCheckpoint(b, policy); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

func TestPolicyThatIsNotUnderstoodIsRefused(t *testing.T) {
	_, key := signer("log")
	good := `{"mode":"require","origin":"` + origin + `","keys":["` + key + `"]}`
	if p, err := ParsePolicy([]byte(good)); err != nil || p.Mode != Require {
		t.Fatal(p, err)
	}
	for name, text := range map[string]string{
		"mode": strings.Replace(good, "require", "Require", 1), "origin": strings.Replace(good, `"`+origin+`"`, `""`, 1),
		"key of another log": strings.Replace(good, `"origin":"example`, `"origin":"sample`, 1),
		"no keys":            strings.Replace(good, key, "", 1), "unknown member": strings.Replace(good, "{", `{"witness":1,`, 1),
		"null": "null", "list": "[]", "text": `"off"`, "no mode": `{}`,
	} {
		if p, err := ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%s: got %+v, want an error", name, p)
		}
	}
}

func TestPublicKeyComesBackOutOfItsText(t *testing.T) {
	for n := range 200 {
		s, key := signer(fmt.Sprint(n))
		pub, err := PublicKey(key)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		sig, err := s.Sign([]byte("message"))
		if err != nil || !ed25519.Verify(pub, []byte("message"), sig) {
			t.Fatalf("%s: is not the key that signs", key)
		}
	}
}

func TestEntryHasOneSpelling(t *testing.T) {
	e := entry(3, "stable")
	text := string(e.Encode())
	if got, err := ParseEntry([]byte(text)); err != nil || got != e {
		t.Fatalf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", text + "\n", text[:len(text)-1], strings.Replace(text, "1.3", "1.03", 1),
		strings.Replace(text, "channel ", "channel  ", 1), strings.ToUpper(text), strings.Replace(text, "release 1", "release 2", 1),
		strings.Replace(text, "stable", "sta/ble", 1), strings.Repeat("x", maxEntry+1)} {
		if got, err := ParseEntry([]byte(bad)); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
	if got, ok := EntryOf("os/stable/example-amd64/1.3.json", e.Manifest); !ok || got != e {
		t.Errorf("entry of a target: got %+v, %t", got, ok)
	}
	for _, name := range []string{"fleet/stable/directive.json", "os/stable/1.3.json", "os/stable/x/1.3", "os/stable/x/1.03.json"} {
		if got, ok := EntryOf(name, e.Manifest); ok {
			t.Errorf("%s: got %+v, want none", name, got)
		}
	}
}

// TestGolden fixes the bytes of everything that is served.
func TestGolden(t *testing.T) {
	d := disk{}
	c := d.grow(t, Empty(origin), []Entry{entry(1, "edge"), entry(1, "stable"), entry(2, "edge")})
	s, _ := signer("golden")
	b, err := c.Seal(s)
	if err != nil {
		t.Fatal(err)
	}
	d[CheckpointPath] = b
	for _, path := range append(c.Files(true), CheckpointPath, IndexPath(entry(1, "stable").Leaf())) {
		name := filepath.Join("testdata", "golden", filepath.FromSlash(strings.TrimPrefix(path, Dir)))
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, d[path], 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(want, d[path]) {
			t.Errorf("%s: got %q, want %q, %v", path, d[path], want, err)
		}
	}
}

func TestAppEntriesAreAKindOfTheirOwn(t *testing.T) {
	v, err := release.ParseVersion("2.3.1")
	if err != nil {
		t.Fatal(err)
	}
	e, ok := EntryOf("apps/acme/web/2.3.1.json", release.DigestOf(nil))
	if !ok || e != (Entry{Publisher: "acme", Name: "web", Version: v, Manifest: release.DigestOf(nil)}) {
		t.Fatalf("got %+v, %t", e, ok)
	}
	again, err := ParseEntry(e.Encode())
	if err != nil || again != e || !strings.HasPrefix(string(e.Encode()), "twinkeel app 1\npublisher acme\nname web\n") {
		t.Errorf("got %+v, %v of %q", again, err, e.Encode())
	}
	for _, bad := range []string{"apps/acme/web.json", "apps/acme/web/2.03.json", "fleet/stable/app-web.json", "apps/acme/web/2.3.1"} {
		if e, ok := EntryOf(bad, release.DigestOf(nil)); ok {
			t.Errorf("%s: got %+v", bad, e)
		}
	}
	mixed := strings.Replace(string(e.Encode()), "publisher", "channel", 1)
	if _, err := ParseEntry([]byte(mixed)); err == nil {
		t.Error("an entry of two kinds is accepted")
	}
}
