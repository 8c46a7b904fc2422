package publisher

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// ErrPassphrase means that the passphrase does not open a key.
var ErrPassphrase = errors.New("the passphrase does not open this key")

// Kind is a kind of key.
type Kind string

// The kinds of keys that hosts accept.
const (
	Ed25519 Kind = "ed25519"
	P256    Kind = "p256"
)

// PublicKey is the public half of a key as TUF metadata names it.
type PublicKey struct {
	ID  string // SHA-256 of the key's canonical TUF form, 64 hexadecimal digits
	pub crypto.PublicKey
	key *metadata.Key
}

// PrivateKey is a key that can sign.
type PrivateKey struct {
	Public PublicKey
	secret crypto.PrivateKey
	signer signature.Signer
}

// Generate makes a new key from the system's randomness.
func Generate(kind Kind) (*PrivateKey, error) {
	switch kind {
	case Ed25519:
		_, secret, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("generate key: %w", err)
		}
		return newPrivateKey(secret)
	case P256:
		secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("generate key: %w", err)
		}
		return newPrivateKey(secret)
	}
	return nil, fmt.Errorf("generate key: got kind %q, want %s or %s", kind, Ed25519, P256)
}

func newPrivateKey(secret crypto.PrivateKey) (*PrivateKey, error) {
	var signer signature.Signer
	var pub crypto.PublicKey
	var err error
	switch s := secret.(type) {
	case ed25519.PrivateKey:
		pub = s.Public()
		signer, err = signature.LoadED25519Signer(s)
	case *ecdsa.PrivateKey:
		pub = s.Public()
		signer, err = signature.LoadECDSASigner(s, crypto.SHA256)
	default:
		return nil, fmt.Errorf("private key: got a %T, want ed25519 or ECDSA P-256", secret)
	}
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	public, err := newPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{Public: public, secret: secret, signer: signer}, nil
}

func newPublicKey(pub crypto.PublicKey) (PublicKey, error) {
	switch p := pub.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		// go-tuf labels every curve P-256, so that others would never verify.
		if p.Curve != elliptic.P256() {
			return PublicKey{}, fmt.Errorf("public key: got curve %s, want P-256", p.Curve.Params().Name)
		}
	default:
		return PublicKey{}, fmt.Errorf("public key: got a %T, want ed25519 or ECDSA P-256", pub)
	}
	key, err := metadata.KeyFromPublicKey(pub)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	id, err := key.ID()
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	return PublicKey{ID: id, pub: pub, key: key}, nil
}

// ParsePublic reads a public key in PEM ("PUBLIC KEY").
func ParsePublic(b []byte) (PublicKey, error) {
	pub, err := cryptoutils.UnmarshalPEMToPublicKey(b)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	return newPublicKey(pub)
}

// PEM returns the key as ParsePublic reads it.
func (p PublicKey) PEM() ([]byte, error) { return cryptoutils.MarshalPublicKeyToPEM(p.pub) }

// Encode returns the key in PEM: with a passphrase as "ENCRYPTED SIGSTORE PRIVATE KEY"
// (scrypt and secretbox, the format of cosign), with none as plain PKCS #8.
func (k *PrivateKey) Encode(passphrase []byte) ([]byte, error) {
	if passphrase == nil {
		return cryptoutils.MarshalPrivateKeyToPEM(k.secret)
	}
	if len(passphrase) == 0 {
		return nil, errors.New("encode key: the passphrase is empty")
	}
	der, err := cryptoutils.MarshalPrivateKeyToEncryptedDER(k.secret, cryptoutils.StaticPasswordFunc(passphrase))
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return cryptoutils.PEMEncode(cryptoutils.EncryptedSigstorePrivateKeyPEMType, der), nil
}

// ParsePrivate reads a private key in PEM. passphrase is asked only if the key is
// encrypted; a passphrase that does not open it is ErrPassphrase.
func ParsePrivate(b []byte, passphrase func() ([]byte, error)) (*PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("private key: not a PEM file")
	}
	if block.Type == string(cryptoutils.PrivateKeyPEMType) || block.Type == string(cryptoutils.ECPrivateKeyPEMType) {
		secret, err := cryptoutils.UnmarshalPEMToPrivateKey(b, nil)
		if err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		return newPrivateKey(secret)
	}
	if passphrase == nil {
		return nil, errors.New("private key: is encrypted and there is no passphrase")
	}
	pass, err := passphrase()
	if err != nil {
		return nil, err
	}
	secret, err := cryptoutils.UnmarshalPEMToPrivateKey(b, cryptoutils.StaticPasswordFunc(pass))
	if err != nil {
		// The library has no error value of its own for this case.
		return nil, fmt.Errorf("private key: %w (%v)", ErrPassphrase, err)
	}
	return newPrivateKey(secret)
}
