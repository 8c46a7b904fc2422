package record

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// A record is written with its fields sorted by name, and with what else stood in the old
// one, whichever way it takes.
func TestMergeSortsAndKeeps(t *testing.T) {
	s := bootloader.State{Slots: [2]bootloader.Record{{Priority: 2, Successful: true}, {Priority: 3, Tries: 3}},
		Epoch: 1<<64 - 1, Denied: release.DigestOf([]byte("x")), DeniedAttempt: 7}
	for _, v := range []any{s, bootloader.State{}, bootloader.Boot{Slot: partitions.B, ID: "a<b>", Firmware: true}, bootloader.Boot{Fallback: true}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		is, err := decodeAny(b)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(is) // a map: sorted
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Merge(nil, v); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	plain, err := Merge(nil, s)
	if err != nil {
		t.Fatal(err)
	}
	next := s
	next.Slots[1].Tries--
	want, err := Merge(nil, next)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Merge(plain, next); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	foreign := bytes.Replace(plain, []byte(`"tries":3`), []byte(`"tries":3,"watts":5`), 1)
	if got, err := Merge(foreign, next); err != nil || !bytes.Contains(got, []byte(`"watts":5`)) || !bytes.Contains(got, []byte(`"tries":2`)) {
		t.Errorf("got %s, %v, want what a newer version wrote kept", got, err)
	}
}
