package publisher

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// cosignPassphrase opens the golden keys.
const cosignPassphrase = "correct horse"

// The files in testdata/cosign were written by sigstore's cryptoutils, as cosign does it:
// P-256 under both of cosign's names for the format, and ed25519.
func TestGoldenKeysOfCosignOpen(t *testing.T) {
	for _, name := range []string{"cosign", "sigstore", "ed25519"} {
		b, err := os.ReadFile(filepath.Join("testdata", "cosign", name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		pub, err := ReadPublic(filepath.Join("testdata", "cosign", name+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := ParsePrivate(b, func() ([]byte, error) { return []byte(cosignPassphrase), nil })
		if err != nil || key.Public.ID != pub.ID {
			t.Fatalf("%s: got key %+v, want %s: %v", name, key, pub.ID, err)
		}
		if _, err := ParsePrivate(b, func() ([]byte, error) { return []byte("wrong"), nil }); err == nil {
			t.Errorf("%s: a wrong passphrase opens it", name)
		}
	}
}

// What is written here opens with cosign's own library, and says the same about how the
// passphrase was stretched.
func TestKeysOpenInCosign(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "cosign", "sigstore.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []Kind{P256, Ed25519} {
		key, err := Generate(kind)
		if err != nil {
			t.Fatal(err)
		}
		b, err := key.Encode([]byte(cosignPassphrase))
		if err != nil {
			t.Fatal(err)
		}
		secret, err := cryptoutils.UnmarshalPEMToPrivateKey(b, cryptoutils.StaticPasswordFunc([]byte(cosignPassphrase)))
		if err != nil {
			t.Fatal(err)
		}
		signer, err := signature.LoadSigner(secret, 5) // crypto.SHA256
		if err != nil {
			t.Fatal(err)
		}
		pub, err := signer.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		again, err := newPublicKey(pub)
		if err != nil || again.ID != key.Public.ID {
			t.Errorf("%s: got key %s, want %s, %v", kind, again.ID, key.Public.ID, err)
		}
		if got, want := envelope(t, b), envelope(t, golden); !bytes.Equal(got, want) {
			t.Errorf("%s: got envelope %s, want %s", kind, got, want)
		}
	}
}

// envelope returns a key file's header and parameters without what is random.
func envelope(t *testing.T, b []byte) []byte {
	t.Helper()
	block, rest := pem.Decode(b)
	if block == nil || len(rest) > 0 {
		t.Fatalf("got %q", b)
	}
	var e struct {
		KDF struct {
			Name   string
			Params map[string]int
			Salt   []byte
		}
		Cipher struct {
			Name  string
			Nonce []byte
		}
		Ciphertext []byte
	}
	if err := json.Unmarshal(block.Bytes, &e); err != nil {
		t.Fatal(err)
	}
	if len(e.KDF.Salt) != 32 || len(e.Cipher.Nonce) != 24 || len(e.Ciphertext) == 0 {
		t.Errorf("got salt of %d and nonce of %d bytes", len(e.KDF.Salt), len(e.Cipher.Nonce))
	}
	out, err := json.Marshal([]any{block.Type, e.KDF.Name, e.KDF.Params, e.Cipher.Name})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
