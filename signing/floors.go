package signing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/release"
)

const (
	floorFormat  = 1
	maxFloorSize = 256 << 10 // bytes of one copy: over a thousand roles
)

// floorFiles are the two copies. Each write goes to the one that is older or bad.
var floorFiles = [2]string{"floor.0", "floor.1"}

// floorMembers are the members of floorState.
var floorMembers = []string{"format", "sequence", "root", "roles", "log"}

// floorState is what a host never goes below. It is kept apart from the metadata, so
// that losing the metadata loses no protection.
type floorState struct {
	Format   int                  `json:"format"`
	Sequence uint64               `json:"sequence"` // the valid copy with the higher one counts
	Root     int64                `json:"root"`     // version of the newest root seen
	Roles    map[string]roleFloor `json:"roles"`    // by "delegator/role"
	Log      *logFloor            `json:"log,omitempty"`
	// unknown holds members that a newer agent wrote; they are written back unchanged.
	unknown map[string]json.RawMessage
}

// roleFloor is the highest version seen that was signed by the key set Keys. Other
// keys mean that root or the delegator replaced them, which is how a repository
// recovers from a thief who signed an enormous version: then the floor says nothing.
type roleFloor struct {
	Version int64  `json:"version"`
	Keys    string `json:"keys"`
	// SignedAt is set for the timestamp role: a time proven to have passed.
	SignedAt time.Time `json:"signedAt,omitzero"`
}

// floors is floorState on disk.
type floors struct {
	dir   durable.Dir
	state floorState
	next  int // index of the copy to write next
	// settled says that state is durable: this process wrote it. What an earlier one left
	// may be a file whose directory was not synced, and after a reset that failed half-way
	// there may be none.
	settled bool
	// problem says why no copy could be read although there must be one.
	problem error
}

func noFloors() floorState {
	return floorState{Format: floorFormat, Roles: map[string]roleFloor{}}
}

// openFloors reads both copies. That there is none is fine as long as hasMetadata is
// false, for a floor is always written before the first metadata.
func openFloors(dir durable.Dir, hasMetadata bool, v *Verdicts) *floors {
	f := &floors{dir: dir, state: noFloors()}
	var bad []error
	found := false
	for i, name := range floorFiles {
		b, err := dir.Read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var s floorState
		if err == nil {
			s, err = v.floor(b)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if !found || s.Sequence > f.state.Sequence {
			f.state, f.next = s, 1-i
		}
		found = true
	}
	switch {
	case found:
	case len(bad) > 0:
		f.problem = errors.Join(bad...)
	case hasMetadata:
		f.problem = fmt.Errorf("%s and %s: are missing", floorFiles[0], floorFiles[1])
	}
	return f
}

// raise makes sure that the floor of a role is durably at least what is given, before
// the caller commits the metadata that it covers.
func (f *floors) raise(role, keys string, version int64, signedAt time.Time) error {
	have := f.state.Roles[role]
	want := roleFloor{Version: version, Keys: keys, SignedAt: signedAt.UTC().Truncate(time.Second)}
	if have.Keys == keys {
		want.Version = max(have.Version, version)
		if have.SignedAt.After(want.SignedAt) {
			want.SignedAt = have.SignedAt
		}
	}
	if want == have {
		return nil
	}
	s := f.state
	s.Roles = maps.Clone(s.Roles)
	s.Roles[role] = want
	return f.write(s)
}

// raiseRoot makes sure that the root floor is durably at least version.
func (f *floors) raiseRoot(version int64) error {
	if version <= f.state.Root {
		return nil
	}
	s := f.state
	s.Root = version
	return f.write(s)
}

// settle makes sure that a copy is durable, before metadata is that relies on it.
func (f *floors) settle() error {
	if f.settled {
		return nil
	}
	return f.write(f.state)
}

func (f *floors) write(s floorState) error {
	s.Sequence++
	b, err := s.encode()
	if err != nil {
		return err
	}
	if err := f.dir.Replace(floorFiles[f.next], b); err != nil {
		return err
	}
	f.state, f.next, f.settled = s, 1-f.next, true
	return nil
}

// version returns the floor of a role under a key set, 0 if there is none.
func (f *floors) version(role, keys string) int64 {
	if r := f.state.Roles[role]; r.Keys == keys {
		return r.Version
	}
	return 0
}

// signedAt returns the time that a role under a key set proves to have passed.
func (f *floors) signedAt(role, keys string) time.Time {
	if r := f.state.Roles[role]; r.Keys == keys {
		return r.SignedAt
	}
	return time.Time{}
}

// reset removes both copies. If one of them stays, the state does, too.
func (f *floors) reset() error {
	f.settled = false
	for _, name := range floorFiles {
		if err := f.dir.Remove(name); err != nil {
			return err
		}
	}
	*f = floors{dir: f.dir, state: noFloors()}
	return nil
}

// encode returns a copy's bytes: a line with the SHA-256 of the rest, then JSON.
func (s floorState) encode() ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if len(s.unknown) > 0 {
		all := map[string]json.RawMessage{}
		if err := json.Unmarshal(b, &all); err != nil {
			return nil, err
		}
		maps.Copy(all, s.unknown)
		if b, err = json.Marshal(all); err != nil {
			return nil, err
		}
	}
	b = floorFile(append(b, '\n'))
	if len(b) > maxFloorSize {
		return nil, fmt.Errorf("floors: got %d bytes, want at most %d", len(b), maxFloorSize)
	}
	return b, nil
}

// floorFile puts the checksum before a copy's JSON.
func floorFile(body []byte) []byte {
	return append([]byte(release.DigestOf(body).String()+"\n"), body...)
}

// decodeFloor reads one copy. Only what encode wrote passes the checksum.
func decodeFloor(b []byte) (floorState, error) {
	s := noFloors()
	if len(b) > maxFloorSize {
		return s, fmt.Errorf("got %d bytes, want at most %d", len(b), maxFloorSize)
	}
	sum, body, ok := bytes.Cut(b, []byte{'\n'})
	want, err := release.ParseDigest(string(sum))
	if !ok || err != nil || release.DigestOf(body) != want {
		return s, errors.New("damaged: the checksum does not match")
	}
	if err := scan(body, true); err != nil {
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, err
	}
	if s.Format != floorFormat {
		return s, fmt.Errorf("format: got %d, want %d", s.Format, floorFormat)
	}
	if s.Root < 0 {
		return s, fmt.Errorf("root: got %d, want at least 0", s.Root)
	}
	if err := json.Unmarshal(body, &s.unknown); err != nil {
		return s, err
	}
	maps.DeleteFunc(s.unknown, func(name string, _ json.RawMessage) bool {
		// As encoding/json has matched them, whatever their case.
		return slices.ContainsFunc(floorMembers, func(known string) bool { return strings.EqualFold(name, known) })
	})
	return s, nil
}
