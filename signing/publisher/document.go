package publisher

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/twinkeel/twinkeel/signing"
)

// MaxMetadata bounds one metadata file of any role, in bytes. What hosts take of one
// role may be less, see signing.MetadataLimit.
const MaxMetadata = 4 << 20

// File is one file of a repository. Path is relative to the repository's base.
type File struct {
	Path string
	Data []byte
}

// The short names keep the signatures below readable.
type (
	rootDoc      = metadata.Metadata[metadata.RootType]
	targetsDoc   = metadata.Metadata[metadata.TargetsType]
	snapshotDoc  = metadata.Metadata[metadata.SnapshotType]
	timestampDoc = metadata.Metadata[metadata.TimestampType]
)

// parse reads metadata of one type. The library trips over nulls that JSON allows, so
// what it panics on is an error here, and maps hold no null afterwards.
func parse[T metadata.Roles](b []byte) (doc *metadata.Metadata[T], err error) {
	defer func() {
		if p := recover(); p != nil {
			doc, err = nil, fmt.Errorf("malformed metadata: %v", p)
		}
	}()
	if len(b) > MaxMetadata {
		return nil, fmt.Errorf("got %d bytes of metadata, want at most %d", len(b), MaxMetadata)
	}
	doc, err = new(metadata.Metadata[T]).FromBytes(b)
	if err != nil {
		return nil, err
	}
	if err := checkNulls(doc); err != nil {
		return nil, err
	}
	return doc, nil
}

func checkNulls(doc any) error {
	switch d := doc.(type) {
	case *rootDoc:
		if err := checkKeys(d.Signed.Keys); err != nil {
			return err
		}
		if err := noNull("roles", d.Signed.Roles); err != nil {
			return err
		}
		for _, r := range []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
			if d.Signed.Roles[r] == nil {
				return fmt.Errorf("root names no role %s", r)
			}
		}
		return nil
	case *targetsDoc:
		if d.Signed.Targets == nil {
			return fmt.Errorf("targets is missing")
		}
		if d.Signed.Delegations != nil {
			if err := checkKeys(d.Signed.Delegations.Keys); err != nil {
				return err
			}
		}
		return noNull("targets", d.Signed.Targets)
	case *snapshotDoc:
		return noNull("meta", d.Signed.Meta)
	case *timestampDoc:
		if d.Signed.Meta["snapshot.json"] == nil {
			return fmt.Errorf("timestamp names no snapshot")
		}
		return nil
	}
	return fmt.Errorf("internal error: metadata of type %T", doc)
}

// checkKeys refuses keys that this package would not have written; a key of a wrong
// length would make the verification itself panic.
func checkKeys(keys map[string]*metadata.Key) error {
	if err := noNull("keys", keys); err != nil {
		return err
	}
	for id, key := range keys {
		pub, err := key.ToPublicKey()
		if err != nil {
			return fmt.Errorf("key %.80q: %w", id, err)
		}
		if e, ok := pub.(ed25519.PublicKey); ok && len(e) != ed25519.PublicKeySize {
			return fmt.Errorf("key %.80q: got %d bytes, want %d", id, len(e), ed25519.PublicKeySize)
		}
		public, err := newPublicKey(pub)
		if err != nil {
			return fmt.Errorf("key %.80q: %w", id, err)
		}
		if public.ID != id {
			return fmt.Errorf("key %.80q: its content has the id %s", id, public.ID)
		}
	}
	return nil
}

func noNull[V any](what string, m map[string]*V) error {
	for name, v := range m {
		if v == nil {
			return fmt.Errorf("%s: %.80q is null", what, name)
		}
	}
	return nil
}

// marshal returns the one encoding that this package writes: compact JSON, keys sorted.
func marshal[T metadata.Roles](doc *metadata.Metadata[T]) ([]byte, error) {
	b, err := doc.ToBytes(false)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	if limit := signing.MetadataLimit(typeOf(doc)); int64(len(b)) > limit {
		return nil, fmt.Errorf("encode metadata: got %d bytes, hosts take at most %d: withdraw releases that no host needs, "+
			"or remove keys and channels", len(b), limit)
	}
	return b, nil
}

// typeOf names the kind of a document as a top-level role; delegated ones are targets.
func typeOf(doc any) string {
	switch doc.(type) {
	case *rootDoc:
		return RoleRoot
	case *snapshotDoc:
		return RoleSnapshot
	case *timestampDoc:
		return RoleTimestamp
	}
	return RoleTargets
}

// clone copies a document so that an edit does not reach into the one it came from.
func clone[T metadata.Roles](doc *metadata.Metadata[T]) (*metadata.Metadata[T], error) {
	b, err := doc.ToBytes(false)
	if err != nil {
		return nil, fmt.Errorf("copy metadata: %w", err)
	}
	return new(metadata.Metadata[T]).FromBytes(b)
}

// signWith puts key's signature on doc, in place of an earlier one by the same key.
func signWith[T metadata.Roles](doc *metadata.Metadata[T], key *PrivateKey) error {
	kept := doc.Signatures[:0:0]
	for _, s := range doc.Signatures {
		if s.KeyID != key.Public.ID {
			kept = append(kept, s)
		}
	}
	doc.Signatures = kept
	if _, err := doc.Sign(key.signer); err != nil {
		return fmt.Errorf("sign with key %.12s: %w", key.Public.ID, err)
	}
	return nil
}

// signedBy returns which of the keys have a valid signature on doc. Each is judged by
// itself, through a throwaway delegator that knows no other key: the library only
// answers whether a whole threshold is reached.
func signedBy[T metadata.Roles](doc *metadata.Metadata[T], ids []string, keys map[string]*metadata.Key) map[string]bool {
	valid := map[string]bool{}
	for _, id := range ids {
		key := keys[id]
		if key == nil {
			continue
		}
		judge := metadata.Root()
		judge.Signed.Keys[id] = key
		judge.Signed.Roles[metadata.TARGETS] = &metadata.Role{KeyIDs: []string{id}, Threshold: 1}
		if judge.VerifyDelegate(metadata.TARGETS, doc) == nil {
			valid[id] = true
		}
	}
	return valid
}

// rest returns the text of a field of doc's signed part that TUF does not know,
// decoded into v; an absent field leaves v alone.
func rest(fields map[string]any, name string, v any) error {
	value, ok := fields[name]
	if !ok {
		return nil
	}
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("field %s: %w", name, err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("field %s: %w", name, err)
	}
	return nil
}

// setRest stores v as such a field. It goes through JSON so that a document that was
// just changed and one that was read back are the same.
func setRest(fields *map[string]any, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("field %s: %w", name, err)
	}
	var plain any
	if err := json.Unmarshal(b, &plain); err != nil {
		return fmt.Errorf("field %s: %w", name, err)
	}
	if *fields == nil {
		*fields = map[string]any{}
	}
	(*fields)[name] = plain
	return nil
}

// second cuts t to what TUF's time format can hold.
func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
