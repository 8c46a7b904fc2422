package signing

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/twinkeel/twinkeel/release"
)

const (
	// maxVerdicts bounds what Verdicts remember: those that were asked for last.
	maxVerdicts = 4096
	// maxSummed bounds the bytes of which they remember the digest, likewise, and
	// maxSummedFile those of one file: what is larger is hashed each time.
	maxSummed     = 512 << 10
	maxSummedFile = 64 << 10
	// minSummed is the size from which on a file is named by its digest.
	minSummed = 128
)

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
	// sums and sumsBefore are digests by content in the same way, summed the bytes in sums.
	sums, sumsBefore map[string]release.Digest
	summed           int
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

// sum is release.DigestOf.
func (v *Verdicts) sum(b []byte) release.Digest {
	if v == nil || len(b) < minSummed || len(b) > maxSummedFile {
		return release.DigestOf(b)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if d, known := v.sums[string(b)]; known {
		return d
	}
	d, known := v.sumsBefore[string(b)]
	if !known {
		d = release.DigestOf(b)
	}
	if v.summed += len(b); v.sums == nil || v.summed > maxSummed/2 {
		v.sums, v.sumsBefore, v.summed = map[string]release.Digest{}, v.sums, len(b)
	}
	v.sums[string(b)] = d
	return d
}

// ask names a check by all that its answer depends on: each input with its length, so that
// no two lists run together, and one that is long by its digest.
func (c *Client) ask(what string, inputs ...[]byte) release.Digest {
	mode := "own "
	if c.cfg.Interop {
		mode = "interop "
	}
	return c.cfg.Verdicts.ask(mode, what, inputs...)
}

func (v *Verdicts) ask(mode, what string, inputs ...[]byte) release.Digest {
	q := append(append(make([]byte, 0, 256), mode...), what...)
	for _, b := range inputs {
		q = binary.LittleEndian.AppendUint64(q, uint64(len(b)))
		if len(b) < minSummed {
			q = append(q, b...)
			continue
		}
		d := v.sum(b)
		q = append(q, d[:]...)
	}
	return sha256.Sum256(q)
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
	key := s.c.ask(step, s.past[:], data)
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
	s.past = s.c.ask("drop "+what, s.past[:])
}

// name returns what work makes of the inputs that key names: key sets are hashed once.
func (v *Verdicts) name(key release.Digest, work func() (string, error)) (string, error) {
	d, known := v.get(key)
	if !known {
		d.text, d.err = work()
		v.put(key, d)
	}
	return d.text, d.err
}

// floor is decodeFloor. What it returns is never changed, only replaced.
func (v *Verdicts) floor(b []byte) (floorState, error) {
	key := v.ask("", "floor", b)
	d, known := v.get(key)
	if !known {
		s, err := decodeFloor(b)
		d = verdict{copy: &s, err: err}
		v.put(key, d)
	}
	return *d.copy, d.err
}
