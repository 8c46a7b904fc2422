package signing

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/signingtest"
)

// bench is a repository and a client that stands right before a role is taken.
type bench struct {
	repo   *signingtest.Repo
	client *Client
}

func newBench() *bench {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	r := signingtest.New(now, "stable")
	r.SetTarget("os/stable/example-amd64/1.json", []byte("{}"))
	r.Publish("os-stable")
	c := &Client{cfg: Config{Factory: r.RootBytes(1), Now: func() time.Time { return now }}, floors: &floors{state: noFloors()}}
	return &bench{r, c}
}

// take gives data to the code that meets it when it arrives as the next version of a
// role. It must not panic, and what it lets through must be sound.
func (b *bench) take(t *testing.T, role string, data []byte) {
	s, err := b.client.startFrom(b.client.cfg.Factory)
	if err != nil {
		t.Fatal(err)
	}
	if role == metadata.ROOT {
		_, _ = b.client.startFrom(data)
		if s.nextRoot(data) == nil {
			_, err = s.keyring(nil, metadata.TARGETS)
			_ = s.timeFloor()
		}
	} else if role == metadata.TIMESTAMP {
		if _, err := s.takeTimestamp(data); err == nil {
			_ = s.provenTime()
			_ = s.loadable()
		}
	} else if _, err := s.takeTimestamp(b.repo.File("metadata/timestamp.json")); err != nil {
		t.Fatal(err)
	} else if role == metadata.SNAPSHOT {
		m := &metadata.MetaFiles{Version: 1}
		if s.takeSnapshot(data, m) == nil {
			_ = s.summary()
		}
	} else if r, err := s.verifyRole(nil, metadata.TARGETS, data, nil); err == nil {
		s.roles["root/targets"] = r
		_, _ = r.delegates("os/stable/example-amd64/1.json")
		for name := range r.targets {
			if CheckTargetName(name) != nil {
				t.Fatalf("target %q: was let through", name)
			}
		}
		_, _ = delegatedKeyring(r.delegations, "os-stable")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// loadable reports whether the timestamp in use names a snapshot that may be fetched.
func (s *session) loadable() bool {
	_, err := fileLimit(s.core.Timestamp.Signed.Meta["snapshot.json"], maxSnapshotSize)
	return err == nil
}

// fuzzRole takes the input as it is and, if it is a JSON object, as the signed part of
// the role under the right keys.
func fuzzRole(f *testing.F, role string) {
	b := newBench()
	path := map[string]string{metadata.ROOT: "1.root", metadata.TIMESTAMP: "timestamp", metadata.SNAPSHOT: "2.snapshot",
		metadata.TARGETS: "1.targets"}[role]
	var file struct{ Signed json.RawMessage }
	if err := json.Unmarshal(b.repo.File("metadata/"+path+".json"), &file); err != nil {
		f.Fatal(err)
	}
	f.Add(b.repo.File("metadata/" + path + ".json"))
	f.Add([]byte(file.Signed))
	for _, c := range [][2]string{{`"version":1`, `"version":2`}, {`"length":`, `"length":-`}, {`"threshold":1`, `"threshold":0`},
		{`{`, `{"_type":null,`}, {`"meta":{`, `"meta":{"x.json":null,`}, {`sha256`, `sha512`}, {`"roles":[`, `"roles":[null,`}} {
		f.Add([]byte(strings.ReplaceAll(string(file.Signed), c[0], c[1])))
	}
	keys := b.repo.Keys(role)
	f.Fuzz(func(t *testing.T, data []byte) {
		b.take(t, role, data)
		var signed signingtest.Doc
		if json.Unmarshal(data, &signed) == nil && signed != nil {
			b.take(t, role, b.repo.Sign(signed, keys...))
		}
	})
}

func FuzzRoot(f *testing.F)      { fuzzRole(f, metadata.ROOT) }
func FuzzTimestamp(f *testing.F) { fuzzRole(f, metadata.TIMESTAMP) }
func FuzzSnapshot(f *testing.F)  { fuzzRole(f, metadata.SNAPSHOT) }
func FuzzTargets(f *testing.F)   { fuzzRole(f, metadata.TARGETS) }

// FuzzTarget: a target's content is either the listed bytes or refused.
func FuzzTarget(f *testing.F) {
	f.Add([]byte("{}"), []byte("{}"))
	f.Add([]byte(""), []byte("x"))
	f.Fuzz(func(t *testing.T, listed, got []byte) {
		want := file{size: int64(len(listed)), sha256: release.DigestOf(listed)}
		if ok := want.verify(nil, got) == nil; ok != (string(listed) == string(got)) {
			t.Fatalf("got accepted: %v", ok)
		}
	})
}

// FuzzSignedStructure changes a role's document in its structure and signs it again, so
// that each change reaches the code behind the signature.
func FuzzSignedStructure(f *testing.F) {
	b := newBench()
	roles := []string{metadata.ROOT, metadata.TIMESTAMP, metadata.SNAPSHOT, metadata.TARGETS}
	docs := map[string]any{}
	for _, role := range roles {
		b.repo.Edit(role, func(d signingtest.Doc) { docs[role] = d })
	}
	for i := range roles {
		for step := range byte(4) {
			f.Add(byte(i), []byte{3, 0, step, 2})
			f.Add(byte(i), []byte{7, 2, step, 0, 11, 3, step, 9})
		}
	}
	f.Fuzz(func(t *testing.T, role byte, steps []byte) {
		name := roles[int(role)%len(roles)]
		if doc, ok := signingtest.Mutate(docs[name], steps).(signingtest.Doc); ok {
			b.take(t, name, b.repo.Sign(doc, b.repo.Keys(name)...))
		}
	})
}
