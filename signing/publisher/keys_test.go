package publisher

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

func pass(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }

func TestKeysSurviveEncodingAndOpenOnlyWithTheirPassphrase(t *testing.T) {
	for _, kind := range []Kind{Ed25519, P256} {
		t.Run(string(kind), func(t *testing.T) {
			key, err := Generate(kind)
			if err != nil {
				t.Fatal(err)
			}
			b, err := key.Encode([]byte("secret"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(b), "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----") {
				t.Errorf("got %.60q, want the key type of cosign", b)
			}
			again, err := ParsePrivate(b, pass("secret"))
			if err != nil || again.Public.ID != key.Public.ID {
				t.Fatalf("got %v, %v, want the same key", again, err)
			}
			if _, err := ParsePrivate(b, pass("Secret")); !errors.Is(err, ErrPassphrase) {
				t.Errorf("another passphrase: got %v, want ErrPassphrase", err)
			}
			if _, err := ParsePrivate(b, nil); err == nil {
				t.Error("no passphrase opened it")
			}
			if _, err := key.Encode([]byte{}); err == nil {
				t.Error("an empty passphrase was taken")
			}
			plain, err := key.Encode(nil)
			if err != nil {
				t.Fatal(err)
			}
			if again, err = ParsePrivate(plain, nil); err != nil || again.Public.ID != key.Public.ID {
				t.Errorf("plain: got %v, %v, want the same key", again, err)
			}
			pub, err := key.Public.PEM()
			if err != nil {
				t.Fatal(err)
			}
			if p, err := ParsePublic(pub); err != nil || p.ID != key.Public.ID {
				t.Errorf("public: got %v, %v, want the same key", p, err)
			}
		})
	}
}

// TestKeyMadeElsewhereOpens reads a key as `cosign generate-key-pair` writes it: by the
// library's own function, under the older of its two type names too.
func TestKeyMadeElsewhereOpens(t *testing.T) {
	private, public, err := cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), cryptoutils.StaticPasswordFunc([]byte("secret")))
	if err != nil {
		t.Fatal(err)
	}
	want, err := ParsePublic(public)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.ReplaceAll(string(private), "SIGSTORE", "COSIGN")
	for _, b := range []string{string(private), old} {
		if key, err := ParsePrivate([]byte(b), pass("secret")); err != nil || key.Public.ID != want.ID {
			t.Errorf("%.50q: got %v, %v", b, key, err)
		}
	}
}

func TestKeysThatHostsDoNotAcceptAreRefused(t *testing.T) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []any{r, e} {
		b, err := cryptoutils.MarshalPrivateKeyToPEM(secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePrivate(b, nil); err == nil {
			t.Errorf("a private key of type %T was accepted", secret)
		}
	}
	for _, pub := range []any{&r.PublicKey, &e.PublicKey} {
		b, err := cryptoutils.MarshalPublicKeyToPEM(pub)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePublic(b); err == nil {
			t.Errorf("a public key of type %T was accepted", pub)
		}
	}
	for _, junk := range []string{"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := ParsePrivate([]byte(junk), pass("x")); err == nil {
			t.Errorf("%q was accepted", junk)
		}
	}
}

func TestRingKnowsKeysWithoutOpeningThemAndAsksOnce(t *testing.T) {
	dir := t.TempDir()
	var ids []string
	for _, name := range []string{"a", "b", "elsewhere"} {
		key, err := Generate(Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		if err := SaveKey(dir, name, key, []byte("secret")); err != nil {
			t.Fatal(err)
		}
		if err := SaveKey(dir, name, key, nil); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a key was replaced: %v", err)
		}
		ids = append(ids, key.Public.ID)
	}
	if st, err := os.Stat(filepath.Join(dir, "a.pem")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", st.Mode(), err)
	}
	if err := os.Remove(filepath.Join(dir, "elsewhere.pem")); err != nil {
		t.Fatal(err)
	}
	asked := 0
	ring, err := OpenRing(func() ([]byte, error) { asked++; return []byte("secret"), nil }, dir, filepath.Join(dir, "absent"))
	if err != nil {
		t.Fatal(err)
	}
	if asked != 0 || !ring.Has(ids[0]) || ring.Has(ids[2]) {
		t.Errorf("asked %d times, has %t and %t; want 0, true, false", asked, ring.Has(ids[0]), ring.Has(ids[2]))
	}
	for range 2 {
		for _, id := range ids[:2] {
			if _, err := ring.Key(id); err != nil {
				t.Fatal(err)
			}
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times, want once", asked)
	}
	if _, err := ring.Key(ids[2]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if err := os.Rename(filepath.Join(dir, "b.pub"), filepath.Join(dir, "a.pub")); err != nil {
		t.Fatal(err)
	}
	if ring, err = OpenRing(pass("secret"), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Key(ids[1]); err == nil {
		t.Error("a private key under another one's .pub was used")
	}
}
