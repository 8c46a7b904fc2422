package publisher

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/signing/translog"
)

// Log returns the policy on the release log that the top-level targets role states; ok is
// false if it states none.
func (s *Set) Log() (p translog.Policy, ok bool, err error) { return logOf(s.targets) }

func logOf(doc *targetsDoc) (p translog.Policy, ok bool, err error) {
	if _, ok = doc.Signed.UnrecognizedFields[translog.PolicyField]; !ok {
		return p, false, nil
	}
	if err := rest(doc.Signed.UnrecognizedFields, translog.PolicyField, &p); err != nil {
		return p, true, err
	}
	return p, true, p.Validate()
}

// SetLog states another policy. Targets has to be signed again.
func (s *Set) SetLog(p translog.Policy) error {
	if err := p.Validate(); err != nil {
		return err
	}
	doc, err := s.edit(RoleTargets)
	if err != nil {
		return err
	}
	return setRest(&doc.Signed.UnrecognizedFields, translog.PolicyField, p)
}

// LogKey returns the key as a release log's verifier key. Only ed25519 signs logs.
func (p PublicKey) LogKey(origin string) (string, error) {
	pub, ok := p.pub.(ed25519.PublicKey)
	if !ok {
		return "", fmt.Errorf("log key %.12s: got a %T, want ed25519", p.ID, p.pub)
	}
	return translog.Key(origin, pub)
}

// LogKeyID returns the id of the key in a verifier key.
func LogKeyID(key string) (string, error) {
	pub, err := translog.PublicKey(key)
	if err != nil {
		return "", err
	}
	public, err := newPublicKey(pub)
	return public.ID, err
}

// LogSigners returns those of a log's keys that the ring holds.
func LogSigners(ring *Ring, keys ...string) ([]translog.Signer, error) {
	var list []translog.Signer
	slices.Sort(keys)
	for _, text := range slices.Compact(keys) {
		id, err := LogKeyID(text)
		if err != nil {
			return nil, err
		}
		if !ring.Has(id) {
			continue
		}
		key, err := ring.Key(id)
		if err != nil {
			return nil, fmt.Errorf("sign checkpoint: %w", err)
		}
		list = append(list, translog.Signer{Key: text, Sign: func(message []byte) ([]byte, error) {
			return key.signer.SignMessage(bytes.NewReader(message))
		}})
	}
	return list, nil
}

// log says what changes about the release log.
func (w *words) log(role string, before, after *targetsDoc) error {
	if role != RoleTargets {
		return nil
	}
	old, had, _ := logOf(before)
	now, has, err := logOf(after)
	switch {
	case err != nil:
		return fmt.Errorf("proposal: %w", err)
	case had && !has:
		w.say("there is no release log any more")
		return nil
	case !has:
		return nil
	}
	if old.Mode != now.Mode {
		w.say("hosts %s that a release stands in the release log, instead of %q", map[translog.Mode]string{
			translog.Require: "require", translog.Warn: "warn unless they find", translog.Off: "no longer check"}[now.Mode], old.Mode)
	}
	if old.Origin != now.Origin {
		w.say("the release log is %s instead of %q: hosts forget what they remember of the other one", now.Origin, old.Origin)
	}
	for _, k := range now.Keys {
		if !slices.Contains(old.Keys, k) {
			w.say("the release log gets key %s", k)
		}
	}
	for _, k := range old.Keys {
		if !slices.Contains(now.Keys, k) {
			w.say("the release log loses key %s", k)
		}
	}
	return nil
}
