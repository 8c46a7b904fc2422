package signing_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/signingtest"
)

type (
	repo = signingtest.Repo
	doc  = signingtest.Doc
)

// attack is one thing that a repository in bad hands may do. It gets a clone of the
// repository, all keys included, and what the repository served at first.
type attack struct {
	name string
	make func(r *repo, first map[string][]byte) signing.Source
	code string // want
}

// roleVersions returns the committed versions by role.
func roleVersions(h *host) map[string]int64 {
	out := map[string]int64{}
	for _, r := range h.State().Roles {
		out[r.Name] = r.Version
	}
	return out
}

// use refreshes and then asks for both targets, whose content never changes.
func use(h *host, src signing.Source) error {
	if err := h.refresh(src); err != nil {
		return err
	}
	for _, want := range [][2]string{{manifestName, `{"release":1}`}, {directiveName, `{"directive":1}`}} {
		b, err := h.target(src, want[0])
		if err != nil {
			return err
		}
		if string(b) != want[1] {
			return fmt.Errorf("%s: got %q, want %q", want[0], b, want[1])
		}
	}
	return nil
}

// mustUse fails unless src can be used.
func mustUse(t *testing.T, h *host, src signing.Source) {
	t.Helper()
	if err := use(h, src); err != nil {
		t.Fatal(err)
	}
}

// The conditions in which an attack must make no difference. Under "killed" the power
// goes at each durable write that the attack leads to.
const (
	sameProcess = "same process"
	restarted   = "restarted"
	cacheLost   = "cache lost"
	killed      = "killed"
)

// scene is a host that has seen two honest publications.
type scene struct {
	honest *repo
	first  map[string][]byte // what the repository served at first
	host   *host
	before map[string]int64
}

func newScene(t *testing.T) *scene {
	s := &scene{honest: newRepo()}
	s.first = s.honest.Files()
	s.host = newHost(t, s.honest)
	mustUse(t, s.host, s.honest)
	s.honest.PublishRoot()
	s.honest.Publish("targets", "os-stable", "fleet-stable")
	mustUse(t, s.host, s.honest)
	s.before = roleVersions(s.host)
	return s
}

// runAs makes the attack in all conditions if it is the first of its family: attacks that
// differ only in the bytes of one file lead to the same writes, and the others are made
// with a restart between their steps.
func (a attack) runAs(t *testing.T, family string, seen map[string]bool) {
	if seen[family] {
		a.mustFail(t, newScene(t), true)
		return
	}
	seen[family] = true
	a.run(t)
}

// run makes the attack in all conditions.
func (a attack) run(t *testing.T) {
	for _, condition := range []string{sameProcess, restarted, cacheLost} {
		t.Run(condition, func(t *testing.T) {
			s := newScene(t)
			if condition == cacheLost {
				for _, name := range s.host.disk.list("") {
					if strings.HasSuffix(name, ".json") {
						delete(s.host.disk.files, name)
					}
				}
			}
			if condition != sameProcess {
				s.host.restart()
			}
			a.mustFail(t, s, condition != sameProcess)
		})
	}
	t.Run(killed, a.runKilled)
}

// mustFail makes the attack twice, if asked with a restart between, and then lets the
// honest repository go on, which must cure the host without help.
func (a attack) mustFail(t *testing.T, s *scene, restart bool) {
	t.Helper()
	honest := s.honest.Clone()
	src := a.make(s.honest.Clone(), s.first)
	for range 2 {
		err := use(s.host, src)
		if err == nil || signing.Code(err) != a.code {
			t.Fatalf("got error %v (code %q), want code %q", err, signing.Code(err), a.code)
		}
		if restart {
			s.host.restart()
		}
	}
	// A thief may have used up the next version, and honest people then skip it.
	for range 2 {
		honest.Publish("targets", "os-stable", "fleet-stable")
	}
	mustUse(t, s.host, honest)
	for role, v := range roleVersions(s.host) {
		if v < s.before[role] {
			t.Errorf("%s: version: got %d, was %d", role, v, s.before[role])
		}
	}
}

// runKilled cuts the power at each effect of the attack, before and after it has landed.
func (a attack) runKilled(t *testing.T) {
	s := newScene(t)
	files := s.host.disk.files
	for cut := 1; ; cut++ {
		for _, lands := range []bool{false, true} {
			s.host.disk.files = maps.Clone(files)
			s.host.restart()
			s.host.disk.cutAt, s.host.disk.lands = cut, lands
			err := use(s.host, a.make(s.honest.Clone(), s.first))
			if s.host.disk.effects < cut {
				return
			}
			if err == nil {
				t.Fatalf("cut %d: the attack succeeded, or the cut went unnoticed", cut)
			}
			s.host.restart()
			a.mustFail(t, s, true)
		}
	}
}

// listOld makes the listing of a file in parent that of an earlier publication.
func listOld(r *repo, parent, file string, content []byte, version int) {
	r.Edit(parent, func(d doc) {
		d["meta"].(doc)[file] = doc{"version": version, "length": len(content), "hashes": doc{"sha256": sum(string(content))}}
	})
}

func TestRollbackIsRefused(t *testing.T) {
	for _, a := range []attack{
		{"everything of an earlier day", func(r *repo, first map[string][]byte) signing.Source {
			newest := r.Files()
			r.SetFiles(first)
			r.SetFile("metadata/2.root.json", newest["metadata/2.root.json"])
			return r
		}, signing.Untrusted},
		{"timestamp", func(r *repo, first map[string][]byte) signing.Source {
			r.SetFile("metadata/timestamp.json", first["metadata/timestamp.json"])
			return r
		}, signing.Untrusted},
		{"snapshot by the timestamp key", func(r *repo, first map[string][]byte) signing.Source {
			listOld(r, "timestamp", "snapshot.json", first["metadata/2.snapshot.json"], 2)
			r.Bump("timestamp")
			r.Write("timestamp")
			return r
		}, signing.Untrusted},
		{"targets by the snapshot key", func(r *repo, first map[string][]byte) signing.Source {
			listOld(r, "snapshot", "targets.json", first["metadata/1.targets.json"], 1)
			r.Publish()
			return r
		}, signing.Untrusted},
		{"release role by the snapshot key", func(r *repo, first map[string][]byte) signing.Source {
			listOld(r, "snapshot", "os-stable.json", first["metadata/2.os-stable.json"], 2)
			r.Publish()
			return r
		}, signing.Untrusted},
		{"directive role by the snapshot key", func(r *repo, first map[string][]byte) signing.Source {
			listOld(r, "snapshot", "fleet-stable.json", first["metadata/2.fleet-stable.json"], 2)
			r.Publish()
			return r
		}, signing.Untrusted},
		{"root", func(r *repo, first map[string][]byte) signing.Source {
			r.SetFile("metadata/3.root.json", first["metadata/1.root.json"])
			return r
		}, signing.Untrusted},
	} {
		t.Run(a.name, a.run)
	}
}

func TestMixAndMatchIsRefused(t *testing.T) {
	under := func(name, old string) func(*repo, map[string][]byte) signing.Source {
		return func(r *repo, first map[string][]byte) signing.Source {
			r.Publish("targets", "os-stable")
			r.SetFile(name, first[old])
			return r
		}
	}
	for _, a := range []attack{
		{"snapshot", under("metadata/4.snapshot.json", "metadata/2.snapshot.json"), signing.Untrusted},
		{"targets", under("metadata/3.targets.json", "metadata/1.targets.json"), signing.Untrusted},
		{"release role", under("metadata/4.os-stable.json", "metadata/2.os-stable.json"), signing.Untrusted},
		{"directives as a release role", under("metadata/4.os-stable.json", "metadata/2.fleet-stable.json"), signing.Untrusted},
	} {
		t.Run(a.name, a.run)
	}
}

func TestBadBytesOfEachFileAreRefused(t *testing.T) {
	bodies := readGolden(t, "hostile")
	if len(bodies) < 15 {
		t.Fatalf("got %d bodies", len(bodies))
	}
	bodies["endless"], bodies["deep"] = bytes.Repeat([]byte("a"), 10<<20), bytes.Repeat([]byte("["), 3000)
	bodies["long-number"] = append([]byte(`{"signed":`), bytes.Repeat([]byte("1"), 15<<10)...)
	bodies["deep-object"] = []byte(strings.Repeat(`{"signed":`, 3000))
	seen := map[string]bool{}
	for _, file := range []string{"3.root", "timestamp", "4.snapshot", "3.targets", "4.os-stable", "4.fleet-stable"} {
		for name, body := range bodies {
			path := "metadata/" + file + ".json"
			a := attack{name, func(r *repo, _ map[string][]byte) signing.Source {
				r.PublishRoot()
				r.Publish("targets", "os-stable", "fleet-stable")
				return replacing(r, path, body)
			}, signing.Untrusted}
			t.Run(file+" "+name, func(t *testing.T) {
				a.runAs(t, file, seen)
			})
		}
	}
}

func (a attack) runNamed(t *testing.T, name, family string, seen map[string]bool) {
	t.Run(name, func(t *testing.T) { a.runAs(t, family, seen) })
}

func TestSignedNonsenseIsRefusedAndNeverPanics(t *testing.T) {
	set := func(role string, edit func(doc)) func(*repo, map[string][]byte) signing.Source {
		return func(r *repo, _ map[string][]byte) signing.Source {
			r.Edit(role, edit)
			switch role {
			case "root":
				r.PublishRoot()
			case "snapshot", "timestamp":
				r.Publish()
			default:
				r.Publish(role)
			}
			return r
		}
	}
	delegations := func(d doc) doc { return d["delegations"].(doc) }
	seen := map[string]bool{}
	firstRole := func(d doc) doc { return delegations(d)["roles"].([]any)[0].(doc) }
	for _, a := range []attack{
		{"root: keys null", set("root", func(d doc) { d["keys"] = nil }), signing.Untrusted},
		{"root: roles null", set("root", func(d doc) { d["roles"] = nil }), signing.Untrusted},
		{"root: role null", set("root", func(d doc) { d["roles"].(doc)["targets"] = nil }), signing.Untrusted},
		{"root: role missing", set("root", func(d doc) { delete(d["roles"].(doc), "snapshot") }), signing.Untrusted},
		{"root: threshold 0", set("root", func(d doc) { d["roles"].(doc)["timestamp"].(doc)["threshold"] = 0 }), signing.Untrusted},
		{"root: threshold below 0", set("root", func(d doc) { d["roles"].(doc)["root"].(doc)["threshold"] = -1 }), signing.Untrusted},
		{"root: threshold out of reach", set("root", func(d doc) { d["roles"].(doc)["targets"].(doc)["threshold"] = 2 }), signing.Untrusted},
		{"root: not consistent", set("root", func(d doc) { d["consistent_snapshot"] = false }), signing.Untrusted},
		{"root: key without a name", set("root", func(d doc) { d["roles"].(doc)["targets"].(doc)["keyids"] = []any{"ab"} }), signing.Untrusted},
		{"timestamp: meta null", set("timestamp", func(d doc) { d["meta"] = nil }), signing.Untrusted},
		{"timestamp: huge version", set("timestamp", func(d doc) { d["version"] = 1 << 40 }), signing.Untrusted},
		{"snapshot: meta empty", set("snapshot", func(d doc) { d["meta"] = doc{} }), signing.Untrusted},
		{"snapshot: meta entry null", set("snapshot", func(d doc) { d["meta"].(doc)["x.json"] = nil }), signing.Untrusted},
		{"snapshot: entry without digest", set("snapshot", func(d doc) { d["meta"].(doc)["x.json"] = doc{"version": 1} }), signing.Untrusted},
		{"snapshot: entry with sha512 only", set("snapshot", func(d doc) {
			d["meta"].(doc)["x.json"] = doc{"version": 1, "length": 1, "hashes": doc{"sha512": strings.Repeat("ab", 64)}}
		}), signing.Untrusted},
		{"targets: null", set("targets", func(d doc) { d["targets"] = nil }), signing.Untrusted},
		{"targets: target null", set("targets", func(d doc) { d["targets"].(doc)["x"] = nil }), signing.Untrusted},
		{"targets: negative length", set("targets", func(d doc) {
			d["targets"].(doc)["x"] = doc{"length": -1, "hashes": doc{"sha256": sum("")}}
		}), signing.Untrusted},
		{"targets: delegations null", set("targets", func(d doc) { d["delegations"] = nil }), signing.Untrusted},
		{"targets: delegation null", set("targets", func(d doc) { delegations(d)["roles"] = []any{nil} }), signing.Untrusted},
		{"targets: delegated threshold 0", set("targets", func(d doc) { firstRole(d)["threshold"] = 0 }), signing.Untrusted},
		{"targets: delegated threshold out of reach", set("targets", func(d doc) { firstRole(d)["threshold"] = 2 }), signing.Untrusted},
		{"targets: delegation twice", set("targets", func(d doc) {
			delegations(d)["roles"] = append(delegations(d)["roles"].([]any), firstRole(d))
		}), signing.Untrusted},
		{"targets: bit length 33", set("targets", func(d doc) {
			delete(delegations(d), "roles")
			delegations(d)["succinct_roles"] = doc{"keyids": []any{}, "threshold": 1, "bit_length": 33, "name_prefix": "bin"}
		}), signing.Untrusted},
		{"release role: hashes empty", set("os-stable", func(d doc) { d["targets"].(doc)["x"] = doc{"length": 1, "hashes": doc{}} }), signing.Untrusted},
		{"release role: unknown hash", set("os-stable", func(d doc) {
			d["targets"].(doc)["x"] = doc{"length": 1, "hashes": doc{"md5": "00"}}
		}), signing.Untrusted},
		{"release role: names differ in case", set("os-stable", func(d doc) {
			d["targets"].(doc)["OS/stable/example-amd64/1.json"] = d["targets"].(doc)[manifestName]
		}), signing.Untrusted},
	} {
		role, _, _ := strings.Cut(a.name, ":")
		t.Run(a.name, func(t *testing.T) { a.runAs(t, role, seen) })
	}
}

func TestHostileNamesAreRefused(t *testing.T) {
	seen := map[string]bool{}
	for _, role := range []string{"../x", "a/b", "?", "#", "a\x00b", strings.Repeat("a", 300), "", ".", "root", "snapshot", "Upper", "a%2fb"} {
		attack{"", func(r *repo, _ map[string][]byte) signing.Source {
			r.Edit("targets", func(d doc) {
				roles := d["delegations"].(doc)["roles"].([]any)
				evil := doc{}
				for k, v := range roles[0].(doc) {
					evil[k] = v
				}
				evil["name"] = role
				d["delegations"].(doc)["roles"] = append(roles, evil)
			})
			r.Publish("targets")
			return r
		}, signing.Untrusted}.runNamed(t, fmt.Sprintf("role %.20q", role), "role", seen)
	}
	for _, name := range []string{"../x", "a/../b", "/abs", "a//b", "a/.", "a\\b", "a\nb", "a/", "", strings.Repeat("a/", 300), "a/.hidden"} {
		attack{"", func(r *repo, _ map[string][]byte) signing.Source {
			r.Edit("os-stable", func(d doc) { d["targets"].(doc)[name] = doc{"length": 1, "hashes": doc{"sha256": sum("x")}} })
			r.Publish("os-stable")
			return r
		}, signing.Untrusted}.runNamed(t, fmt.Sprintf("target %.20q", name), "target", seen)
		h := newHost(t, newRepo())
		if _, err := h.target(nil, name); err == nil {
			t.Errorf("target %q: was looked up", name)
		}
		if _, err := h.Cached(name, 1); err == nil {
			t.Errorf("target %q: was looked up", name)
		}
	}
}

func TestWrongTargetContentIsRefused(t *testing.T) {
	path := "targets/os/stable/example-amd64/" + sum(`{"release":2}`) + ".2.json"
	for _, c := range []struct{ name, body string }{
		{"wrong", `{"release":X}`}, {"short", `{"release":2`}, {"long", `{"release":2}}`}, {"empty", ""},
		{"another target", `{"release":1}`}, {"endless", strings.Repeat("x", 10<<20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRepo()
			r.SetTarget("os/stable/example-amd64/2.json", []byte(`{"release":2}`))
			r.Publish("os-stable")
			h := newHost(t, r)
			mustUse(t, h, r)
			_, err := h.target(replacing(r, path, []byte(c.body)), "os/stable/example-amd64/2.json")
			wantCode(t, err, signing.Untrusted)
			if b, err := h.target(r, "os/stable/example-amd64/2.json"); err != nil || string(b) != `{"release":2}` {
				t.Fatalf("afterwards: got %q, %v", b, err)
			}
		})
	}
}

func TestFreezeIsSeenInEachRole(t *testing.T) {
	for role, life := range map[string]time.Duration{
		"root": signingtest.RootLife, "timestamp": signingtest.TimestampLife, "snapshot": signingtest.OnlineLife,
		"targets": signingtest.TargetsLife, "os-stable": signingtest.ReleaseLife, "fleet-stable": signingtest.OnlineLife,
	} {
		t.Run(role, func(t *testing.T) {
			r := newRepo()
			h := newHost(t, r)
			mustUse(t, h, r)
			// Shortly before, all else is signed again, but this role is not.
			expiry := start.Add(life)
			r.Now = expiry.Add(-time.Hour)
			if role != "root" {
				r.PublishRoot()
			}
			for _, other := range []string{"targets", "os-stable", "fleet-stable", "snapshot", "timestamp"} {
				if other != role {
					r.Bump(other)
					r.Write(other)
				}
			}
			h.now = expiry.Add(-time.Second)
			mustUse(t, h, r)
			h.now = expiry.Add(time.Second)
			for range 2 {
				wantCode(t, use(h, r), signing.Expired)
				h.restart()
			}
			r.Now = h.now
			r.PublishRoot()
			r.Publish("targets", "os-stable", "fleet-stable")
			mustUse(t, h, r)
		})
	}
}

func TestNewMetadataThatHasExpiredIsNotStored(t *testing.T) {
	for _, role := range []string{"timestamp", "snapshot", "targets", "os-stable"} {
		r := newRepo()
		h := newHost(t, r)
		mustUse(t, h, r)
		was := string(h.disk.files[role+".json"])
		r.Edit(role, func(d doc) { d["expires"] = start.Add(-time.Second).Format(time.RFC3339) })
		r.Bump(role)
		r.WriteRaw(role)
		for _, above := range []string{"snapshot", "timestamp"} {
			if role != above && role != "timestamp" {
				r.Bump(above)
				r.Write(above)
			}
		}
		wantCode(t, use(h, r), signing.Expired)
		if string(h.disk.files[role+".json"]) != was {
			t.Errorf("%s: was stored", role)
		}
	}
}

func TestUnavailableSourceIsNoDistrust(t *testing.T) {
	r := newRepo()
	for _, cause := range []error{errors.New("connection refused"), fs.ErrPermission} {
		for _, path := range []string{"metadata/timestamp.json", "metadata/2.snapshot.json", "metadata/1.targets.json", "metadata/2.os-stable.json"} {
			h := newHost(t, r)
			wantCode(t, use(h, failing(r, path, cause)), signing.Unavailable)
			mustUse(t, h, r)
		}
	}
	h := newHost(t, r)
	wantCode(t, h.refresh(failing(r, "metadata/2.root.json", errors.New("503"))), signing.Unavailable)
	// Some object stores answer "forbidden" for what is not there.
	mustUse(t, h, failing(r, "metadata/2.root.json", fs.ErrPermission))
	mustUse(t, h, r)
}
