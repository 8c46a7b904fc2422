package signing

import (
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/twinkeel/twinkeel/internal/durable"
)

// The cache of verified targets keeps this much; the oldest go first.
const (
	maxCachedTargets = 64
	maxCachedBytes   = 8 << 20
)

// targetsDir is the sub-directory of the cache.
const targetsDir = "targets"

// numberDigits is how long numbers in names of its files are at least.
const numberDigits = 12

// content returns the bytes of a target that a role lists as f, from the cache or src.
func (c *Client) content(ctx context.Context, src Source, s *session, name string, f file, limit int64) ([]byte, error) {
	if f.size > limit {
		return nil, untrusted("target %s: is listed with %d bytes, want at most %d", name, f.size, limit)
	}
	if f.id() == "" {
		return nil, untrusted("target %s: is listed with unknown hashes only", name)
	}
	// A cache that cannot be used is no reason to fail: it only saves a request.
	cache, cacheErr := c.cfg.Dir.Sub(targetsDir)
	if cacheErr == nil {
		if data := c.cachedTarget(cache, f); data != nil {
			return data, nil
		}
	}
	where := "targets/" + name
	if s.core.Root.Signed.ConsistentSnapshot {
		dir, base := path.Split(name)
		where = "targets/" + dir + f.id() + "." + base
	}
	data, err := c.fetch(ctx, src, where, f.size)
	if err != nil {
		return nil, err
	}
	if err := f.verify(c.cfg.Verdicts, data); err != nil {
		return nil, untrusted("target %s: %w", name, err)
	}
	if cacheErr == nil {
		keepTarget(cache, f, data)
	}
	return data, nil
}

// entry is a file of the cache. Its name says all: <number>-<size>-<digest>, numbers
// rising with age falling.
type entry struct {
	name   string
	number uint64
	size   int64
	id     string
}

func parseEntry(name string) (entry, bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 || parts[2] == "" {
		return entry{}, false
	}
	number, err := strconv.ParseUint(parts[0], 10, 64)
	size, err2 := strconv.ParseInt(parts[1], 10, 64)
	e := entry{name, number, size, parts[2]}
	return e, err == nil && err2 == nil && size >= 0 && name == entryName(e)
}

func entryName(e entry) string {
	number := strconv.FormatUint(e.number, 10)
	return strings.Repeat("0", max(0, numberDigits-len(number))) + number + "-" + strconv.FormatInt(e.size, 10) + "-" + e.id
}

// entries returns those names that are the cache's files', oldest first, and those of what
// does not belong there.
func entries(names []string) (list []entry, strays []string) {
	for _, name := range names {
		if e, ok := parseEntry(name); ok {
			list = append(list, e)
		} else {
			strays = append(strays, name)
		}
	}
	slices.SortFunc(list, func(a, b entry) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return list, strays
}

// cachedTarget returns the content of f, verified again, or nil.
func (c *Client) cachedTarget(cache durable.Dir, f file) []byte {
	names, err := cache.List()
	if err != nil {
		return nil
	}
	id := "-" + f.id()
	list, _ := entries(slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, id) }))
	for _, e := range slices.Backward(list) {
		if data, err := cache.Read(e.name); err == nil && f.verify(c.cfg.Verdicts, data) == nil {
			return data
		}
	}
	return nil
}

// keepTarget stores verified content and makes room before it. Errors are of no
// consequence.
func keepTarget(cache durable.Dir, f file, data []byte) {
	if len(data) > durable.MaxFile {
		return
	}
	names, _ := cache.List() // an empty one: nothing is known to be in the way
	list, strays := entries(names)
	next := entry{number: 1, size: int64(len(data)), id: f.id()}
	total := next.size
	for _, e := range list {
		next.number = e.number + 1
		total += e.size
	}
	for len(list) > 0 && (len(list) >= maxCachedTargets || total > maxCachedBytes || list[0].id == next.id) {
		strays = append(strays, list[0].name)
		total -= list[0].size
		list = list[1:]
	}
	for _, name := range strays {
		if cache.Remove(name) != nil {
			return
		}
	}
	_ = cache.Replace(entryName(next), data)
}

// dropTargets empties the cache.
func (c *Client) dropTargets() error {
	cache, err := c.cfg.Dir.Sub(targetsDir)
	if err != nil {
		return err
	}
	names, err := cache.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := cache.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
