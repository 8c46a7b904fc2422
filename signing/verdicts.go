package signing

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"

	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/twinkeel/twinkeel/release"
)

// maxVerdicts bounds what Verdicts remember: those that were asked for last.
const maxVerdicts = 4096

// Verdicts remember what the checks of metadata came to. Parsing a file and checking its
// signatures is a pure function of its bytes and of the bytes that were accepted before
// it, so a check with the very same inputs is not made twice. Whatever depends on time,
// on floors or on the disk is none of it. Several clients may share Verdicts; those of a
// process that runs for long save it the signatures of every poll that finds nothing new.
// The zero value is ready to use; a nil pointer remembers nothing.
type Verdicts struct {
	mu   sync.Mutex
	made map[release.Digest]verdict
	// before is what was made before it grew too large; what is asked for is kept.
	before map[release.Digest]verdict
}

// verdict is what one check came to.
type verdict struct {
	core *trustedmetadata.TrustedMetadata // what is trusted after it
	role *role                            // that was verified
	text string                           // that names key sets
	copy *floorState                      // that a file of floors holds
	err  error
}

func (v *Verdicts) get(key release.Digest) (verdict, bool) {
	if v == nil {
		return verdict{}, false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	d, ok := v.made[key]
	if !ok {
		if d, ok = v.before[key]; ok {
			v.keep(key, d)
		}
	}
	return d, ok
}

func (v *Verdicts) keep(key release.Digest, d verdict) {
	if v.made == nil || len(v.made) >= maxVerdicts/2 {
		v.made, v.before = map[release.Digest]verdict{}, v.made
	}
	v.made[key] = d
}

func (v *Verdicts) put(key release.Digest, d verdict) {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keep(key, d)
}

// question names a check by all that its answer depends on.
type question struct{ h hash.Hash }

func ask(what string, interop bool) question {
	q := question{sha256.New()}
	mode := "own"
	if interop {
		mode = "interop"
	}
	return q.of([]byte(what), []byte(mode))
}

// of adds inputs, each with its length, so that no two lists run together.
func (q question) of(inputs ...[]byte) question {
	for _, b := range inputs {
		q.h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b))))
		q.h.Write(b)
	}
	return q
}

func (q question) key() (d release.Digest) {
	q.h.Sum(d[:0])
	return d
}

// copyOf returns what is trusted as a value of its own. What it points to is never
// changed, only replaced.
func copyOf(core *trustedmetadata.TrustedMetadata) *trustedmetadata.TrustedMetadata {
	if core == nil {
		return nil
	}
	c := *core
	return &c
}

// apply lets the core take data in: limits and form first, then by call. What the core
// holds is a pure function of everything that it was asked to take so far, which past
// names.
func (s *session) apply(step string, data []byte, limit int64, call func() error) error {
	key := ask(step, s.c.cfg.Interop).of(s.past[:], data).key()
	if v, ok := s.c.cfg.Verdicts.get(key); ok {
		s.core, s.past = copyOf(v.core), key
		return v.err
	}
	err := s.c.precheck(data, limit)
	if err == nil {
		err = guard(call)
	}
	s.c.cfg.Verdicts.put(key, verdict{core: copyOf(s.core), err: err})
	s.past = key
	return err
}

// dropped notes that a part of what the core took was taken from it again.
func (s *session) dropped(what string) {
	s.past = ask("drop "+what, s.c.cfg.Interop).of(s.past[:]).key()
}

// name returns what work makes of the inputs of q: key sets are hashed once.
func (v *Verdicts) name(q question, work func() (string, error)) (string, error) {
	key := q.key()
	d, known := v.get(key)
	if !known {
		d.text, d.err = work()
		v.put(key, d)
	}
	return d.text, d.err
}

// floor is decodeFloor. What it returns is never changed, only replaced.
func (v *Verdicts) floor(b []byte) (floorState, error) {
	key := ask("floor", false).of(b).key()
	d, known := v.get(key)
	if !known {
		s, err := decodeFloor(b)
		d = verdict{copy: &s, err: err}
		v.put(key, d)
	}
	return *d.copy, d.err
}
