package signing_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/signingtest"
)

// ecdsaKey makes a signing key over any curve; what it signs is always SHA-256.
func ecdsaKey(t *testing.T, curve elliptic.Curve) signingtest.Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return signingtest.NewKey(doc{"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": doc{"public": string(text)}},
		func(payload []byte) string {
			digest := sha256.Sum256(payload)
			sig, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
			if err != nil {
				t.Fatal(err)
			}
			return hex.EncodeToString(sig)
		})
}

func TestP256IsAccepted(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	for _, role := range []string{"root", "targets", "snapshot", "timestamp", "os-stable", "fleet-stable"} {
		r.SetKeys(role, 1, ecdsaKey(t, elliptic.P256()))
	}
	r.PublishRoot()
	r.Publish("targets", "os-stable", "fleet-stable")
	mustUse(t, h, r)
	if got := roleVersions(h); got["os-stable"] != 3 {
		t.Errorf("versions: got %v", got)
	}
}

func TestOtherKeysAreRefused(t *testing.T) {
	edit := func(change func(doc)) func(t *testing.T, r *repo) signingtest.Key {
		return func(t *testing.T, r *repo) signingtest.Key {
			k := r.NewKey("x")
			change(k.Doc)
			return signingtest.NewKey(k.Doc, k.Sign)
		}
	}
	seen := map[string]bool{}
	for name, key := range map[string]func(t *testing.T, r *repo) signingtest.Key{
		"P-384":          func(t *testing.T, _ *repo) signingtest.Key { return ecdsaKey(t, elliptic.P384()) },
		"unknown type":   edit(func(d doc) { d["keytype"] = "sphincs" }),
		"unknown scheme": edit(func(d doc) { d["scheme"] = "ed25519ph" }),
		"short":          edit(func(d doc) { d["keyval"].(doc)["public"] = "abcd" }),
		"not hex":        edit(func(d doc) { d["keyval"].(doc)["public"] = strings.Repeat("zz", 32) }),
		"empty":          edit(func(d doc) { d["keyval"] = doc{} }),
	} {
		for _, role := range []string{"timestamp", "os-stable"} {
			attack{"", func(r *repo, _ map[string][]byte) signing.Source {
				r.SetKeys(role, 1, key(t, r))
				r.PublishRoot()
				r.Publish("targets", "os-stable")
				return r
			}, signing.Untrusted}.runNamed(t, name+" for "+role, role, seen)
		}
	}
}

func TestThresholdCountsKeysThatDiffer(t *testing.T) {
	for _, role := range []string{"timestamp", "snapshot", "targets", "os-stable"} {
		// arrange makes role need two keys, and signs with what it returns.
		run := func(name string, good bool, arrange func(r *repo, a, b signingtest.Key)) {
			t.Run(role+" "+name, func(t *testing.T) {
				r := newRepo()
				h := newHost(t, r)
				arrange(r, r.NewKey("a"), r.NewKey("b"))
				r.PublishRoot()
				r.Publish("targets", "os-stable", "fleet-stable")
				if err := use(h, r); good != (err == nil) || !good && signing.Code(err) != signing.Untrusted {
					t.Errorf("got %v", err)
				}
			})
		}
		run("two of two", true, func(r *repo, a, b signingtest.Key) { r.SetKeys(role, 2, a, b) })
		run("one of two", false, func(r *repo, a, b signingtest.Key) { r.SetKeys(role, 2, a, b); r.SignWith(role, a) })
		run("a stranger", false, func(r *repo, a, b signingtest.Key) { r.SetKeys(role, 1, a); r.SignWith(role, b) })
		run("nobody", false, func(r *repo, a, _ signingtest.Key) { r.SetKeys(role, 1, a); r.SignWith(role) })
		run("one key under two names", false, func(r *repo, a, b signingtest.Key) {
			twin := a
			twin.ID = b.ID
			r.SetKeys(role, 2, a, twin)
		})
		run("one key spelt in two ways", false, func(r *repo, a, _ signingtest.Key) {
			public := a.Doc["keyval"].(doc)["public"].(string)
			twin := signingtest.NewKey(doc{"keytype": "ed25519", "scheme": "ed25519", "keyval": doc{"public": strings.ToUpper(public)}}, a.Sign)
			r.SetKeys(role, 2, a, twin)
		})
	}
}

func TestOneSignatureTwiceCountsOnce(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	r.SetKeys("timestamp", 2, r.NewKey("a"), r.NewKey("b"))
	r.SignWith("timestamp", r.Keys("timestamp")[0])
	r.PublishRoot()
	r.Publish()
	var file map[string]any
	if err := json.Unmarshal(r.File("metadata/timestamp.json"), &file); err != nil {
		t.Fatal(err)
	}
	sigs := file["signatures"].([]any)
	file["signatures"] = append(sigs, sigs[0])
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, h.refresh(replacing(r, "metadata/timestamp.json", b)), signing.Untrusted)
}

func TestRootRotationNeedsOldAndNewKeys(t *testing.T) {
	type keys = []signingtest.Key
	for _, c := range []struct {
		name string
		sign func(old, new keys) keys
		good bool
	}{
		{"both", func(old, new keys) keys { return append(old[:2:2], new[:2]...) }, true},
		{"old only", func(old, _ keys) keys { return old }, false},
		{"new only", func(_, new keys) keys { return new }, false},
		{"one old", func(old, new keys) keys { return append(old[:1:1], new...) }, false},
		{"one new", func(old, new keys) keys { return append(old[:3:3], new[0]) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRepo()
			old := keys{r.NewKey("a"), r.NewKey("b"), r.NewKey("c")}
			r.SetKeys("root", 2, old...)
			r.PublishRoot()
			h := newHost(t, r)
			mustUse(t, h, r)
			next := keys{r.NewKey("d"), r.NewKey("e"), r.NewKey("f")}
			r.SetKeys("root", 2, next...)
			r.Bump("root")
			var d doc
			r.Edit("root", func(root doc) { d = root })
			r.SetFile("metadata/3.root.json", r.Sign(d, c.sign(old, next)...))
			if err := use(h, r); c.good != (err == nil) || !c.good && signing.Code(err) != signing.Untrusted {
				t.Errorf("got %v", err)
			}
			want := int64(2)
			if c.good {
				want = 3
			}
			if got := roleVersions(h)["root"]; got != want {
				t.Errorf("root: got version %d, want %d", got, want)
			}
		})
	}
}

func TestLongRootChainIsAnErrorAndGoesOnNextTime(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	for range 300 {
		r.PublishRoot()
	}
	wantCode(t, h.refresh(r), signing.Untrusted)
	if got := roleVersions(h)["root"]; got != 257 {
		t.Errorf("root: got version %d, want 257", got)
	}
	mustUse(t, h, r)
	if got := roleVersions(h)["root"]; got != 301 {
		t.Errorf("root: got version %d, want 301", got)
	}
	h = newHost(t, r)
	r.SetFile("metadata/258.root.json", nil) // exactly 256 steps are no error
	mustUse(t, h, r)
}

func TestRootThatSkipsAVersionIsRefused(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	r.PublishRoot()
	r.PublishRoot()
	wantCode(t, h.refresh(replacing(r, "metadata/2.root.json", r.RootBytes(3))), signing.Untrusted)
	mustUse(t, h, r)
}

func TestWithheldRootIsNamed(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	r.PublishRoot()
	r.PublishRoot()
	mustUse(t, h, r)
	delete(h.disk.files, "root.json")
	h.restart()
	src := without(r, "metadata/3.root.json")
	for range 2 {
		wantCode(t, h.refresh(src), signing.RootWithheld)
		_, err := h.target(src, directiveName)
		wantCode(t, err, signing.RootWithheld)
		if b, ok := h.disk.files["root.json"]; ok {
			t.Fatalf("a root below the floor was committed: %s", b)
		}
		h.restart()
	}
	mustUse(t, h, r)
}

func TestFactoryRootNeverReplacesANewerOne(t *testing.T) {
	r := newRepo()
	old := r.Keys("timestamp")
	h := newHost(t, r)
	r.Rotate("timestamp")
	r.PublishRoot()
	r.Publish()
	mustUse(t, h, r)
	h.restart() // with the factory root again
	if got := roleVersions(h)["root"]; got != 2 {
		t.Fatalf("root: got version %d, want 2", got)
	}
	// Who holds the revoked key withholds the root that revokes it.
	thief := r.Clone()
	thief.SignWith("timestamp", old...)
	thief.Publish()
	wantCode(t, h.refresh(without(thief, "metadata/2.root.json")), signing.Untrusted)
	mustUse(t, h, r)
	// A newer factory root, from a newer image, is taken over.
	r.PublishRoot()
	h.factory = r.RootBytes(3)
	h.restart()
	mustUse(t, h, without(r, "metadata/3.root.json"))
	if got := roleVersions(h)["root"]; got != 3 {
		t.Errorf("root: got version %d, want 3", got)
	}
}

// A thief may sign an enormous version. Replacing his key must get hosts going again,
// also if they have lost their cache.
func TestFastForwardIsCuredByNewKeys(t *testing.T) {
	const enormous = 1<<31 - 1
	for _, role := range []string{"timestamp", "snapshot", "targets", "os-stable"} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s cache lost %v", role, lost), func(t *testing.T) {
				r := newRepo()
				h := newHost(t, r)
				mustUse(t, h, r)
				r.SetVersion(role, enormous)
				r.Write(role)
				if role != "snapshot" {
					r.Bump("snapshot")
				}
				r.Write("snapshot")
				if role != "timestamp" {
					r.Bump("timestamp")
				}
				r.Write("timestamp")
				mustUse(t, h, r)

				r.SetVersion(role, 2)
				r.Rotate("snapshot")
				r.Rotate("timestamp")
				if role != "snapshot" && role != "timestamp" {
					r.Rotate(role)
				}
				r.PublishRoot()
				r.Bump("targets")
				if role == "targets" {
					r.SetVersion("targets", 2)
				}
				r.Write("targets")
				r.Write("os-stable")
				r.Write("snapshot")
				r.Write("timestamp")
				if lost {
					for _, n := range h.disk.list("") {
						if strings.HasSuffix(n, ".json") {
							delete(h.disk.files, n)
						}
					}
					h.restart()
				}
				mustUse(t, h, r)
				if got := roleVersions(h)[role]; got != 2 {
					t.Errorf("%s: got version %d, want 2", role, got)
				}
				h.restart()
				mustUse(t, h, r)
			})
		}
	}
}

func TestRoleSignedByARevokedKeyIsNoLongerBelieved(t *testing.T) {
	for name, revoke := range map[string]func(r *repo){
		"key": func(r *repo) {
			old := r.Keys("os-stable")
			r.Rotate("os-stable")
			r.SignWith("os-stable", old...)
		},
		"threshold": func(r *repo) {
			old := r.Keys("os-stable")
			r.SetKeys("os-stable", 2, append(old, r.NewKey("more"))...)
			r.SignWith("os-stable", old...)
		},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s restarted %v", name, restarted), func(t *testing.T) {
				r := newRepo()
				h := newHost(t, r)
				mustUse(t, h, r)
				revoke(r)
				r.Publish("targets") // the role itself stays as it was
				h.mustRefresh(r)
				if restarted {
					h.restart()
				}
				_, err := h.target(r, manifestName)
				wantCode(t, err, signing.Untrusted)
				_, err = h.Cached(manifestName, 1<<20)
				wantCode(t, err, signing.Untrusted)
				if _, err := h.target(r, directiveName); err != nil {
					t.Errorf("another role: %v", err)
				}
			})
		}
	}
}
