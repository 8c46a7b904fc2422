package signing_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/signingtest"
	"github.com/twinkeel/twinkeel/signing/translog"
)

const logOrigin = "example.net/log"

// logged is a repository with a release log.
type logged struct {
	*repo
	t     *testing.T
	now   translog.Checkpoint
	known int // number of releases that the log got
}

func logSigner(seed, origin string) translog.Signer {
	sum := sha256.Sum256([]byte(seed))
	key := ed25519.NewKeyFromSeed(sum[:])
	text, err := translog.Key(origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return translog.Signer{Key: text, Sign: func(b []byte) ([]byte, error) { return ed25519.Sign(key, b), nil }}
}

func newLogged(t *testing.T, mode translog.Mode) *logged {
	l := &logged{repo: signingtest.New(start, "stable"), t: t, now: translog.Empty(logOrigin)}
	l.policy(mode, logOrigin, "log")
	l.release("os/stable/example-amd64/1.json", `{"release":1}`)
	l.SetTarget(directiveName, []byte(`{"directive":1}`))
	l.Publish("targets", "os-stable", "fleet-stable")
	return l
}

func (l *logged) policy(mode translog.Mode, origin string, keys ...string) {
	list := []any{}
	for _, k := range keys {
		list = append(list, logSigner(k, origin).Key)
	}
	l.Edit("targets", func(d doc) {
		d[translog.PolicyField] = doc{"mode": string(mode), "origin": origin, "keys": list}
	})
}

// release lists a release and logs it.
func (l *logged) release(name, content string) {
	l.SetTarget(name, []byte(content))
	e, ok := translog.EntryOf(name, release.DigestOf([]byte(content)))
	if !ok {
		l.t.Fatalf("%s: is no release", name)
	}
	l.log(e)
}

func (l *logged) log(entries ...translog.Entry) {
	l.t.Helper()
	files, next, err := translog.At(context.Background(), l.repo, l.now).Append(entries)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range files {
		l.SetFile(f.Path, f.Data)
	}
	l.now = next
	l.known += len(entries)
	l.seal("log")
}

func (l *logged) seal(seeds ...string) {
	var signers []translog.Signer
	for _, s := range seeds {
		signers = append(signers, logSigner(s, l.now.Origin))
	}
	b, err := l.now.Seal(signers...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.SetFile(translog.CheckpointPath, b)
}

func (l *logged) clone() *logged {
	c := *l
	c.repo = l.repo.Clone()
	return &c
}

// noise logs n releases of another machine.
func (l *logged) noise(n int) {
	var list []translog.Entry
	for i := range n {
		name := fmt.Sprintf("os/stable/other/1.%d.json", l.known+i)
		e, _ := translog.EntryOf(name, release.DigestOf([]byte(name)))
		list = append(list, e)
	}
	l.log(list...)
}

const second = "os/stable/example-amd64/2.json"

// publish makes and logs a second release.
func (l *logged) publishSecond() {
	l.release(second, `{"release":2}`)
	l.Publish("os-stable")
}

func TestReleaseInTheLogIsProvenOnceAndAsksForNothingAgain(t *testing.T) {
	r := newLogged(t, translog.Require)
	h := newHost(t, r.repo)
	mustUse(t, h, r)
	if got := r.TakeRequests(); !strings.Contains(strings.Join(got, " "), translog.CheckpointPath) {
		t.Fatalf("requests: got %q, want the log among them", got)
	}
	h.restart()
	mustUse(t, h, r)
	for _, path := range r.TakeRequests() {
		if strings.HasPrefix(path, translog.Dir) {
			t.Errorf("asked again for %s", path)
		}
	}
	r.noise(300)
	r.publishSecond()
	mustUse(t, h, r)
	if _, err := h.target(r, second); err != nil {
		t.Fatal(err)
	}
	h.restart()
	if _, err := h.Target(t.Context(), nil, second, 1<<20); err != nil {
		t.Errorf("without a network: %v", err)
	}
	if s := h.State().Log; s.Size != 302 || s.Origin != logOrigin || s.Warning != "" || len(s.Refused) != 0 {
		t.Errorf("state: got %+v", s)
	}
}

// logAttacks are what a publisher's server with stolen online and release keys may show.
// Each gets a repository whose first release the host has proven, and which has published
// a second one.
var logAttacks = []struct {
	name string
	do   func(before, r *logged) // r is spoilt
	want string
}{
	{"release was never logged", func(before, r *logged) {
		r.now, r.known = before.now, before.known
		r.SetFiles(merge(r.Files(), before.Files(), translog.CheckpointPath))
		r.SetFile(translog.IndexPath(leafOf(second, `{"release":2}`)), nil)
	}, "is not there"},
	{"fork", func(before, r *logged) {
		r.now, r.known = translog.Empty(logOrigin), 0
		r.noise(4)
		r.release(second, `{"release":2}`)
	}, "forked: its first"},
	{"fork of the same size", func(before, r *logged) {
		r.now, r.known = translog.Empty(logOrigin), 0
		r.release(second, `{"release":2}`)
	}, "forked: two different trees"},
	{"shrunk", func(before, r *logged) { r.now = translog.Empty(logOrigin); r.seal("log") }, "shrank: it had 1 entries and has 0"},
	{"old checkpoint", func(before, r *logged) {
		r.SetFile(translog.CheckpointPath, before.File(translog.CheckpointPath))
	}, "the log has 1"},
	{"checkpoint of another key", func(_, r *logged) { r.seal("thief") }, "no key of this log has signed"},
	{"checkpoint without signature", func(_, r *logged) {
		text, _, _ := strings.Cut(string(r.File(translog.CheckpointPath)), "\n\n")
		r.SetFile(translog.CheckpointPath, []byte(text+"\n\n"))
	}, "checkpoint"},
	{"checkpoint of another log", func(_, r *logged) { r.now.Origin = "elsewhere"; r.seal("log") }, "no key of this log has signed"},
	{"checkpoint missing", func(_, r *logged) { r.SetFile(translog.CheckpointPath, nil) }, "is not there"},
	{"giant tree", func(_, r *logged) { r.now.Size = translog.MaxSize; r.seal("log") }, "is not there"},
	{"tree beyond all limits", func(_, r *logged) { r.now.Size = translog.MaxSize + 1; r.seal("log") }, "size"},
	{"tile missing", func(_, r *logged) { r.SetFile("log/tile/0/000.p/2", nil) }, "is not there"},
	{"tile flipped", func(_, r *logged) { flip(r, "log/tile/0/000.p/2", 40) }, "inconsistent"},
	{"tile cut", func(_, r *logged) { r.SetFile("log/tile/0/000.p/2", r.File("log/tile/0/000.p/2")[:63]) }, "63 bytes, want 64"},
	{"index missing", func(_, r *logged) { r.SetFile(translog.IndexPath(leafOf(second, `{"release":2}`)), nil) }, "is not there"},
	{"index of another release", func(_, r *logged) {
		r.SetFile(translog.IndexPath(leafOf(second, `{"release":2}`)), []byte("0\n"))
	}, "is another one"},
	{"index is nonsense", func(_, r *logged) {
		r.SetFile(translog.IndexPath(leafOf(second, `{"release":2}`)), []byte("-1"))
	}, "want a number"},
	{"leaf of another channel", func(before, r *logged) {
		r.now, r.known = before.now, before.known
		e, _ := translog.EntryOf("os/edge/example-amd64/2.json", release.DigestOf([]byte(`{"release":2}`)))
		r.log(e)
		r.SetFile(translog.IndexPath(leafOf(second, `{"release":2}`)), []byte("1\n"))
	}, "is another one"},
}

func leafOf(name, content string) release.Digest {
	e, ok := translog.EntryOf(name, release.DigestOf([]byte(content)))
	if !ok {
		panic(name)
	}
	return e.Leaf()
}

func flip(r *logged, path string, at int) {
	b := r.File(path)
	b[at] ^= 1
	r.SetFile(path, b)
}

// merge returns files with one of them from elsewhere.
func merge(files, other map[string][]byte, path string) map[string][]byte {
	files = maps.Clone(files)
	files[path] = other[path]
	return files
}

func TestNoLieAboutTheLogIsBelieved(t *testing.T) {
	for _, a := range logAttacks {
		t.Run(a.name, func(t *testing.T) {
			before := newLogged(t, translog.Require)
			h := newHost(t, before.repo)
			mustUse(t, h, before)
			r := before.clone()
			r.publishSecond()
			honest := r.clone()
			a.do(before, r)
			for range 2 { // once more by a new process
				if err := h.refresh(r); err != nil {
					t.Fatal(err)
				}
				_, err := h.target(r, second)
				wantCode(t, err, signing.Untrusted)
				if !strings.Contains(err.Error(), a.want) || !strings.HasPrefix(err.Error(), "release log: ") {
					t.Errorf("got %q, want %q in it", err, a.want)
				}
				if errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%v: reads as if the release were not listed", err)
				}
				h.restart()
			}
			mustUse(t, h, r) // what was proven stays proven
			if got := h.State().Log.Refused; len(got) != 1 || !strings.Contains(got[0], a.want) {
				t.Errorf("refused: got %q", got)
			}
			wantEvidence(t, h, r)
			if err := h.refresh(honest); err != nil {
				t.Fatal(err)
			}
			if _, err := h.target(honest, second); err != nil {
				t.Errorf("the honest log afterwards: %v", err)
			}
			if err := h.Reset(); err != nil {
				t.Fatal(err)
			}
			if got := h.State().Log; len(got.Refused) != 0 || got.Size != 0 {
				t.Errorf("after a reset: got %+v", got)
			}
		})
	}
}

// wantEvidence looks at the file that is kept for people.
func wantEvidence(t *testing.T, h *host, r *logged) {
	t.Helper()
	b, err := h.disk.Read("evidence")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ Time, Release, Text, Shown, Seen string }
	if err := json.Unmarshal(b, &list); err != nil || len(list) != 1 {
		t.Fatalf("evidence: got %s, %v", b, err)
	}
	e := list[0]
	if e.Shown != string(r.File(translog.CheckpointPath)) || !strings.Contains(e.Seen, "\n1\n") || !strings.HasPrefix(e.Release, "2 of stable") {
		t.Errorf("evidence: got %+v", e)
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	before := newLogged(t, translog.Require)
	h := newHost(t, before.repo)
	mustUse(t, h, before)
	for n := range 30 {
		r := before.clone()
		r.publishSecond()
		r.now.Root[0] = byte(n)
		r.seal("log")
		if err := h.refresh(r); err != nil {
			t.Fatal(err)
		}
		_, err := h.target(r, second)
		wantCode(t, err, signing.Untrusted)
	}
	b, err := h.disk.Read("evidence")
	if err != nil || len(b) > 64<<10 || len(h.State().Log.Refused) != 8 {
		t.Errorf("got %d bytes, %d records, %v", len(b), len(h.State().Log.Refused), err)
	}
}

func TestPolicyWarnInstallsAndSaysSoAndOffDoesNotLook(t *testing.T) {
	for mode, want := range map[translog.Mode]string{translog.Warn: "no key of this log", translog.Off: ""} {
		r := newLogged(t, mode)
		r.seal("thief")
		h := newHost(t, r.repo)
		mustUse(t, h, r)
		got := h.State().Log.Warning
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", mode, got, want)
		}
	}
}

func TestPolicyThatCannotBeReadIsNotOff(t *testing.T) {
	for name, policy := range map[string]any{
		"mode": doc{"mode": "maybe", "origin": logOrigin, "keys": []any{logSigner("log", logOrigin).Key}},
		"text": "off", "empty": doc{}, "list": []any{},
	} {
		r := newLogged(t, translog.Require)
		r.Edit("targets", func(d doc) { d[translog.PolicyField] = policy })
		r.Publish("targets")
		h := newHost(t, r.repo)
		if err := use(h, r); signing.Code(err) != signing.Untrusted {
			t.Errorf("%s: got %v, want %s", name, err, signing.Untrusted)
		}
	}
}

func TestNetworkThatFailsIsNoLie(t *testing.T) {
	r := newLogged(t, translog.Require)
	h := newHost(t, r.repo)
	for _, path := range []string{translog.CheckpointPath, "log/tile/0/000.p/1", translog.IndexPath(leafOf(manifestName, `{"release":1}`))} {
		wantCode(t, use(h, failing(r, path, errors.New("connection reset"))), signing.Unavailable)
	}
	if got := h.State().Log.Refused; len(got) != 0 {
		t.Errorf("refused: got %q", got)
	}
	mustUse(t, h, r)
}

func TestLogMayBeRestartedOnlyBySignedPolicy(t *testing.T) {
	r := newLogged(t, translog.Require)
	h := newHost(t, r.repo)
	mustUse(t, h, r)
	r.noise(3)
	r.publishSecond()
	if _, err := h.target(r, second); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before a refresh: got %v", err)
	}
	// The log was lost and begins anew, under another name and with another key.
	r.now, r.known = translog.Empty("example.net/log-2"), 0
	r.policy(translog.Require, "example.net/log-2", "log-2")
	for _, name := range []string{manifestName, second} {
		e, _ := translog.EntryOf(name, release.DigestOf(fmt.Appendf(nil, `{"release":%s}`, strings.TrimSuffix(name[len(name)-6:], ".json"))))
		r.log(e)
	}
	r.seal("log-2")
	r.Publish("targets")
	mustUse(t, h, r)
	if _, err := h.target(r, second); err != nil {
		t.Fatal(err)
	}
	if s := h.State().Log; s.Size != 2 || s.Origin != "example.net/log-2" {
		t.Errorf("state: got %+v", s)
	}
}
