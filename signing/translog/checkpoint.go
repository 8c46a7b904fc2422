package translog

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/twinkeel/twinkeel/release"
)

// Limits on what comes from outside.
const (
	// MaxCheckpoint bounds a signed checkpoint, in bytes.
	MaxCheckpoint = 4 << 10
	// MaxSize bounds the number of entries of a log.
	MaxSize   = 1<<31 - 1
	maxOrigin = 128 // bytes
	maxKeys   = 8   // of one policy
)

// Mode is what a host does about a release that it cannot find in the log.
type Mode string

// The modes.
const (
	Require Mode = "require" // does not install it
	Warn    Mode = "warn"    // installs it and says so
	Off     Mode = "off"     // does not look
)

// PolicyField is the member of the top-level targets role's signed part that holds the
// Policy. Without it there is no log.
const PolicyField = "x-twinkeel-log"

// Policy says which log counts. It is believed only from signed metadata.
type Policy struct {
	Mode   Mode     `json:"mode"`
	Origin string   `json:"origin"` // the log's name; another name is another log
	Keys   []string `json:"keys"`   // any of which signs checkpoints: C2SP verifier keys, ed25519
}

// ParsePolicy reads a policy from JSON.
func ParsePolicy(b []byte) (Policy, error) {
	var p Policy
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("log policy: %w", err)
	}
	return p, p.Validate()
}

// Validate checks a policy. An unknown mode is refused rather than taken for Off.
func (p Policy) Validate() error {
	if p.Mode != Require && p.Mode != Warn && p.Mode != Off {
		return fmt.Errorf("log policy: mode: got %.40q, want %s, %s or %s", p.Mode, Require, Warn, Off)
	}
	if p.Origin == "" || len(p.Origin) > maxOrigin || strings.ContainsFunc(p.Origin, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '+' }) {
		return fmt.Errorf("log policy: origin: got %.160q, want 1 to %d printable characters without + and space", p.Origin, maxOrigin)
	}
	if len(p.Keys) < 1 || len(p.Keys) > maxKeys {
		return fmt.Errorf("log policy: keys: got %d, want 1 to %d", len(p.Keys), maxKeys)
	}
	for _, k := range p.Keys {
		if _, err := p.verifier(k); err != nil {
			return err
		}
	}
	return nil
}

// Renamed returns the policy for another log with the same keys.
func (p Policy) Renamed(origin string) (Policy, error) {
	next := Policy{Mode: p.Mode, Origin: origin}
	for _, k := range p.Keys {
		pub, err := PublicKey(k)
		if err != nil {
			return next, err
		}
		text, err := Key(origin, pub)
		if err != nil {
			return next, fmt.Errorf("log policy: %w", err)
		}
		next.Keys = append(next.Keys, text)
	}
	return next, next.Validate()
}

func (p Policy) verifier(key string) (note.Verifier, error) {
	v, err := note.NewVerifier(key)
	if err != nil {
		return nil, fmt.Errorf("log policy: key %.100q: %w", key, err)
	}
	if v.Name() != p.Origin {
		return nil, fmt.Errorf("log policy: key %.100q: is one of %.100q, want %q", key, v.Name(), p.Origin)
	}
	return v, nil
}

// Key returns the verifier key of a public key for the log called origin.
func Key(origin string, pub ed25519.PublicKey) (string, error) {
	return note.NewEd25519VerifierKey(origin, pub)
}

// PublicKey returns the public key in a verifier key.
func PublicKey(key string) (ed25519.PublicKey, error) {
	if _, err := note.NewVerifier(key); err != nil {
		return nil, fmt.Errorf("log key %.100q: %w", key, err)
	}
	// name+hash+key; neither of the first two holds a plus, and base64 may.
	parts := strings.SplitN(key, "+", 3)
	b, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(b) != 1+ed25519.PublicKeySize {
		return nil, fmt.Errorf("log key %.100q: want an ed25519 key", key)
	}
	return ed25519.PublicKey(b[1:]), nil
}

// Checkpoint is how long a log is and what its Merkle tree's root is.
type Checkpoint struct {
	Origin string
	Size   int64 // entries
	Root   release.Digest
}

// Empty is the checkpoint of a log without entries.
func Empty(origin string) Checkpoint {
	return Checkpoint{Origin: origin, Root: release.DigestOf(nil)}
}

func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// OpenCheckpoint returns the checkpoint in a signed note, if one of the policy's keys
// has signed it for the policy's log.
func OpenCheckpoint(signed []byte, p Policy) (Checkpoint, error) {
	var verifiers []note.Verifier
	for _, k := range p.Keys {
		v, err := p.verifier(k)
		if err != nil {
			return Checkpoint{}, err
		}
		verifiers = append(verifiers, v)
	}
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint: got %d bytes, want at most %d", len(signed), MaxCheckpoint)
	}
	n, err := note.Open(signed, note.VerifierList(verifiers...))
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		return Checkpoint{}, errors.New("checkpoint: no key of this log has signed it")
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	c, err := parseCheckpoint(n.Text)
	if err == nil && c.Origin != p.Origin {
		err = fmt.Errorf("checkpoint: origin: got %.160q, want %q", c.Origin, p.Origin)
	}
	return c, err
}

// parseCheckpoint reads the text of a note. Lines after the third are extensions, which
// mean nothing here.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) != 4 {
		return Checkpoint{}, errors.New("checkpoint: want origin, size and root")
	}
	c := Checkpoint{Origin: lines[0]}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || size > MaxSize || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("checkpoint: size: got %.40q, want 0 to %d", lines[1], int64(MaxSize))
	}
	c.Size = size
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return Checkpoint{}, fmt.Errorf("checkpoint: root: got %.80q, want 32 bytes in base64", lines[2])
	}
	c.Root = release.Digest(root)
	if c.Size == 0 && c.Root != release.DigestOf(nil) {
		return Checkpoint{}, errors.New("checkpoint: root: is not that of an empty log")
	}
	return c, nil
}

// Remembered reads a note that was verified before it was kept.
func Remembered(signed string) (Checkpoint, error) {
	text, _, ok := strings.Cut(signed, "\n\n")
	if !ok {
		return Checkpoint{}, errors.New("checkpoint: is not a signed note")
	}
	return parseCheckpoint(text + "\n")
}

// Signer signs checkpoints with one key.
type Signer struct {
	Key  string // its verifier key
	Sign func(message []byte) ([]byte, error)
}

// Seal returns the checkpoint as a note signed by all signers.
func (c Checkpoint) Seal(signers ...Signer) ([]byte, error) {
	if len(signers) == 0 {
		return nil, errors.New("checkpoint: there is no key to sign it with")
	}
	var list []note.Signer
	for _, s := range slices.CompactFunc(signers, func(a, b Signer) bool { return a.Key == b.Key }) {
		v, err := note.NewVerifier(s.Key)
		if err != nil {
			return nil, fmt.Errorf("checkpoint: key %.100q: %w", s.Key, err)
		}
		list = append(list, noteSigner{v, s.Sign})
	}
	b, err := note.Sign(&note.Note{Text: c.text()}, list...)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return b, nil
}

type noteSigner struct {
	note.Verifier
	sign func([]byte) ([]byte, error)
}

func (s noteSigner) Sign(msg []byte) ([]byte, error) { return s.sign(msg) }
