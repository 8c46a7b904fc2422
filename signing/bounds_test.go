package signing_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/signing"
)

// The most that judging one hostile file may allocate. Garbage counts: even if it were
// never collected, the writer's unit, with its MemoryMax of 256 MiB, would hold it.
const maxJudging = 160 << 20

// The largest files that the limits let in, full of what costs a parser most, are judged
// within bounded memory. Each is listed as it should be: that takes a thief of the
// snapshot's key, anybody else is stopped at the digest.
func TestTheLargestMetadataIsJudgedWithinBounds(t *testing.T) {
	const most = 4 << 20
	fill := func(begin, each, end string) []byte {
		n := (most - len(begin) - len(end)) / len(each)
		return []byte(begin + strings.Repeat(each, n)[:n*len(each)-1] + end)
	}
	names := func() []byte {
		var b strings.Builder
		b.WriteString(`{"signed":{"_type":"targets","targets":{`)
		for i := 0; b.Len() < most-200; i++ {
			fmt.Fprintf(&b, `"%x":{},`, i)
		}
		return []byte(strings.TrimSuffix(b.String(), ",") + `}},"signatures":[]}`)
	}
	sparse := func(most int) []byte {
		var b strings.Builder
		b.WriteString(`{"signed":{"_type":"targets","targets":{`)
		for i := 0; b.Len() < most-200; i++ {
			fmt.Fprintf(&b, `"%011x":0,`, i)
		}
		return []byte(strings.TrimSuffix(b.String(), ",") + `}},"signatures":[]}`)
	}
	for name, body := range map[string][]byte{
		"empty objects":  fill(`{"signed":[`, "{},", `],"signatures":[]}`),
		"empty lists":    fill(`{"signatures":[],"signed":{"_type":"targets","x":[`, "[],", `]}}`),
		"numbers":        fill(`{"signatures":[],"signed":{"_type":"targets","x":[`, "0,", `]}}`),
		"signatures":     fill(`{"signed":{"_type":"targets"},"signatures":[`, `{"keyid":"","sig":""},`, `]}`),
		"names":          names(),
		"escapes":        fill(`{"signatures":[],"signed":{"_type":"targets","x":"`, `\u0041`, `1"}}`),
		"sparse lists":   fill(`{"signatures":[],"signed":{"_type":"targets","x":[`, "[]             ,", `]}}`),
		"sparse names":   sparse(most),
		"one long space": fill(`{"signatures":[],"signed":{"_type":"targets"`, "  ", ` }}`),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo()
			h := newHost(t, r)
			mustUse(t, h, r)
			r.Bump("targets")
			r.Put("targets", body)
			r.Publish()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			wantCode(t, use(h, r), signing.Untrusted)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > maxJudging {
				t.Errorf("got %d MiB allocated, want at most %d", got>>20, maxJudging>>20)
			}
		})
	}
}

func TestListsBeyondTheirBoundsAreRefused(t *testing.T) {
	many := func(n int) doc {
		keys := doc{}
		r := newRepo()
		for i := range n {
			k := r.NewKey(fmt.Sprint(i))
			keys[k.ID] = k.Doc
		}
		return keys
	}
	for _, a := range []attack{
		{"257 keys in root", func(r *repo, _ map[string][]byte) signing.Source {
			r.Edit("root", func(d doc) {
				for id, k := range many(257) {
					d["keys"].(doc)[id] = k
				}
			})
			r.PublishRoot()
			return r
		}, signing.Untrusted},
		{"257 keys in a delegation", func(r *repo, _ map[string][]byte) signing.Source {
			r.Edit("targets", func(d doc) { d["delegations"].(doc)["keys"] = many(257) })
			r.Publish("targets")
			return r
		}, signing.Untrusted},
		{"threshold of 2^31", func(r *repo, _ map[string][]byte) signing.Source {
			r.Edit("root", func(d doc) { d["roles"].(doc)["timestamp"].(doc)["threshold"] = 1 << 31 })
			r.PublishRoot()
			return r
		}, signing.Untrusted},
		{"a root of more than 64 KiB", func(r *repo, _ map[string][]byte) signing.Source {
			r.Edit("root", func(d doc) { d["x-note"] = strings.Repeat("x", 64<<10) })
			r.PublishRoot()
			return r
		}, signing.Unavailable}, // the source already gives no more than asked
		{"a timestamp of more than 16 KiB", func(r *repo, _ map[string][]byte) signing.Source {
			r.Edit("timestamp", func(d doc) { d["x-note"] = strings.Repeat("x", 16<<10) })
			r.Publish()
			return r
		}, signing.Unavailable},
		{"a snapshot listed with 1 GiB", func(r *repo, _ map[string][]byte) signing.Source {
			r.Edit("timestamp", func(d doc) {
				d["meta"].(doc)["snapshot.json"] = doc{"version": 4, "length": 1 << 30, "hashes": doc{"sha256": sum("")}}
			})
			r.Bump("timestamp")
			r.Write("timestamp")
			return r
		}, signing.Untrusted},
	} {
		t.Run(a.name, a.run)
	}
}

// A bundle is a repository that somebody put together: what does not belong together is
// refused, or is not there.
func TestBundlesThatDoNotBelongTogether(t *testing.T) {
	for _, a := range []attack{
		{"a step of the root chain is missing", func(r *repo, _ map[string][]byte) signing.Source {
			r.PublishRoot() // 3
			r.Rotate("timestamp")
			r.PublishRoot() // 4
			r.Publish("targets")
			r.SetFile("metadata/3.root.json", nil)
			return r
		}, signing.Untrusted},
		{"the timestamp is newer than the snapshot", func(r *repo, _ map[string][]byte) signing.Source {
			r.Publish("targets")
			r.SetFile("metadata/4.snapshot.json", nil)
			return r
		}, signing.Unavailable},
		{"the timestamp is older than the host", func(r *repo, first map[string][]byte) signing.Source {
			r.SetFile("metadata/timestamp.json", first["metadata/timestamp.json"])
			return r
		}, signing.Untrusted},
		{"the role is missing", func(r *repo, _ map[string][]byte) signing.Source {
			r.Publish("os-stable")
			r.SetFile("metadata/4.os-stable.json", nil)
			return r
		}, signing.Unavailable},
		{"another repository behind the same roots", func(r *repo, _ map[string][]byte) signing.Source {
			other := r.Clone()
			for _, role := range []string{"timestamp", "snapshot", "targets"} {
				other.Rotate(role)
			}
			other.Publish("targets")
			return other
		}, signing.Untrusted},
	} {
		t.Run(a.name, a.run)
	}
}
