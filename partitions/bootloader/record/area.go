package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// An area is one value, in 4096 bytes of its own:
//
//	 0  8   "twinkeel"
//	 8  4   number of the area, little-endian: what belongs elsewhere is not read here
//	12  4   length n of the value, little-endian
//	16  32  SHA-256 of bytes 0 to 15 and of the value
//	48  n   the value, a JSON object; zeros follow
const (
	AreaSize   = 4096 // bytes
	areaHeader = 48
	magic      = "twinkeel"
)

// The areas, in their order on the medium.
const (
	First = iota // the record
	Second
	slotA // descriptions
	slotB
	Areas // how many there are; whoever keeps more begins here
)

// Size is how many bytes a record and the descriptions take.
const Size = Areas * AreaSize

// slotArea is where the description of slot lies.
func slotArea(slot partitions.Slot) int { return slotA + int(slot) }

// EncodeArea returns the 4096 bytes of an area.
func EncodeArea(number int, value []byte) ([]byte, error) {
	b := partitions.AlignedBuffer(AreaSize)
	if err := encodeArea(b, number, value); err != nil {
		return nil, err
	}
	return b, nil
}

// encodeArea is EncodeArea into b.
func encodeArea(b []byte, number int, value []byte) error {
	if len(value) > AreaSize-areaHeader {
		return fmt.Errorf("boot record: area %d: got %d bytes, want at most %d", number, len(value), AreaSize-areaHeader)
	}
	clear(b)
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], uint32(number))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(value)))
	copy(b[areaHeader:], value)
	sum := sumArea(b, len(value))
	copy(b[16:], sum[:])
	return nil
}

// DecodeArea returns the value in the 4096 bytes of an area.
func DecodeArea(number int, b []byte) ([]byte, error) {
	if len(b) != AreaSize {
		return nil, fmt.Errorf("boot record: area %d: got %d bytes, want %d", number, len(b), AreaSize)
	}
	n := binary.LittleEndian.Uint32(b[12:])
	if string(b[:8]) != magic || binary.LittleEndian.Uint32(b[8:]) != uint32(number) || n > AreaSize-areaHeader {
		return nil, fmt.Errorf("boot record: area %d: is not there", number)
	}
	if sum := sumArea(b, int(n)); !bytes.Equal(sum[:], b[16:areaHeader]) {
		return nil, fmt.Errorf("boot record: area %d: checksum is wrong", number)
	}
	return bytes.Clone(b[areaHeader : areaHeader+n]), nil
}

func sumArea(b []byte, n int) [sha256.Size]byte {
	h := sha256.New()
	h.Write(b[:16])
	h.Write(b[areaHeader : areaHeader+n])
	return [sha256.Size]byte(h.Sum(nil))
}

// Merge returns the JSON of v with the fields of old that v does not have: what a newer
// version wrote into the record outlives an older one. Fields are sorted by name.
func Merge(old []byte, v any) ([]byte, error) {
	sorted, plain := inOrder(v)
	b, err := json.Marshal(sorted)
	if err != nil {
		return nil, err
	}
	if plain && (old == nil || nothingElse(old)) {
		return b, nil
	}
	var was any
	if old != nil {
		if was, err = decodeAny(old); err != nil {
			return nil, err
		}
	}
	is, err := decodeAny(b)
	if err != nil {
		return nil, err
	}
	return json.Marshal(mergeAny(was, is))
}

// state and boot are what is written most often, with its fields sorted by name.
type (
	state struct {
		Denied        release.Digest `json:"denied"`
		DeniedAttempt uint64         `json:"deniedAttempt"`
		Epoch         uint64         `json:"epoch"`
		Slots         [2]slot        `json:"slots"`
	}
	slot struct {
		Priority   uint8 `json:"priority"`
		Successful bool  `json:"successful"`
		Tries      uint8 `json:"tries"`
	}
	boot struct {
		Fallback bool            `json:"fallback"`
		Firmware bool            `json:"firmware"`
		ID       string          `json:"id"`
		Slot     partitions.Slot `json:"slot"`
	}
)

// inOrder returns what v is written as, and whether its fields are sorted.
func inOrder(v any) (any, bool) {
	switch v := v.(type) {
	case bootloader.State:
		s := state{Denied: v.Denied, DeniedAttempt: v.DeniedAttempt, Epoch: v.Epoch}
		for i, r := range v.Slots {
			s.Slots[i] = slot{r.Priority, r.Successful, r.Tries}
		}
		return s, true
	case bootloader.Boot:
		return boot{v.Fallback, v.Firmware, v.ID, v.Slot}, true
	}
	return v, false
}

// nothingElse reports whether old is a record with no fields but those that this code
// knows, as this code writes it.
func nothingElse(old []byte) bool {
	var s state
	if json.Unmarshal(old, &s) != nil {
		return false
	}
	b, err := json.Marshal(s)
	return err == nil && bytes.Equal(b, old)
}

func decodeAny(b []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // a uint64 does not fit into a float64
	return v, d.Decode(&v)
}

func mergeAny(was, is any) any {
	switch is := is.(type) {
	case map[string]any:
		if was, ok := was.(map[string]any); ok {
			out := maps.Clone(was)
			for k, v := range is {
				out[k] = mergeAny(was[k], v)
			}
			return out
		}
	case []any:
		if was, ok := was.([]any); ok && len(was) == len(is) {
			for i := range is {
				is[i] = mergeAny(was[i], is[i])
			}
		}
	}
	return is
}

// DecodeState reads the value of a record. Unknown fields are no error.
func DecodeState(value []byte) (bootloader.State, error) {
	var s bootloader.State
	if err := json.Unmarshal(value, &s); err != nil {
		return bootloader.State{}, fmt.Errorf("boot record: %w", err)
	}
	return s, nil
}
