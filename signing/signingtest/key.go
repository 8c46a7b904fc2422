package signingtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Key is a key that signs metadata.
type Key struct {
	ID string
	// Doc describes the public key, as root and delegations list it.
	Doc Doc
	// Sign returns a signature in hexadecimal.
	Sign func(payload []byte) string
}

// NewKey makes an ed25519 key. Keys made in the same order are the same in each run.
func (r *Repo) NewKey(name string) Key {
	r.spare++
	seed := sha256.Sum256(fmt.Appendf(nil, "signingtest %s %d", name, r.spare))
	private := ed25519.NewKeyFromSeed(seed[:])
	public := hex.EncodeToString(private.Public().(ed25519.PublicKey))
	return NewKey(Doc{"keytype": "ed25519", "scheme": "ed25519", "keyval": Doc{"public": public}},
		func(payload []byte) string { return hex.EncodeToString(ed25519.Sign(private, payload)) })
}

// NewKey makes a key of any kind; its id is the one that TUF prescribes.
func NewKey(doc Doc, sign func([]byte) string) Key {
	id := sha256.Sum256(Canonical(doc))
	return Key{ID: hex.EncodeToString(id[:]), Doc: doc, Sign: sign}
}

// Keys returns the keys that sign a role.
func (r *Repo) Keys(role string) []Key { return slices.Clone(r.keys[role]) }

// SignWith sets the keys that sign a role, without telling its delegator.
func (r *Repo) SignWith(role string, keys ...Key) { r.keys[role] = keys }

// SetKeys sets the keys that sign a role, and makes its delegators demand threshold of
// them. The delegators are not written.
func (r *Repo) SetKeys(role string, threshold int, keys ...Key) {
	r.keys[role] = keys
	ids := []any{}
	for _, k := range keys {
		ids = append(ids, k.ID)
	}
	set := func(list, entry Doc) {
		for _, k := range keys {
			list[k.ID] = k.Doc
		}
		entry["keyids"], entry["threshold"] = ids, threshold
	}
	root := r.docs["root"]
	if entry, ok := root["roles"].(Doc)[role].(Doc); ok {
		set(root["keys"].(Doc), entry)
		return
	}
	for _, parent := range r.targetsRoles() {
		d, _ := r.docs[parent]["delegations"].(Doc)
		entries, _ := d["roles"].([]any)
		for _, e := range entries {
			if entry := e.(Doc); entry["name"] == role {
				set(d["keys"].(Doc), entry)
			}
		}
	}
}

// Rotate replaces the keys of a role by one new key. The delegators are not written.
func (r *Repo) Rotate(role string) { r.SetKeys(role, 1, r.NewKey(role)) }

// Canonical encodes a document as OLPC canonical JSON, which TUF signatures cover: names
// sorted, no white space, in strings only quotation mark and backslash escaped.
func Canonical(v any) []byte {
	var b bytes.Buffer
	canonical(&b, v)
	return b.Bytes()
}

func canonical(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case Doc:
		b.WriteByte('{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b.WriteByte(',')
			}
			canonical(b, k)
			b.WriteByte(':')
			canonical(b, v[k])
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			canonical(b, e)
		}
		b.WriteByte(']')
	case string:
		b.WriteByte('"')
		for i := 0; i < len(v); i++ {
			if v[i] == '"' || v[i] == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(v[i])
		}
		b.WriteByte('"')
	default:
		j, err := json.Marshal(v)
		if err != nil {
			panic(fmt.Sprintf("signingtest: canonical: %v", err))
		}
		b.Write(j)
	}
}
