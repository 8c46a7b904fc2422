package gptbits

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

func TestSgdiskSetsTheBitsThatAreRead(t *testing.T) {
	needs.Tools(t, "sgdisk")
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 4<<20); err != nil {
		t.Fatal(err)
	}
	for _, want := range []Bits{{1, 0, true}, {2, 7, false}, {15, 15, true}, {8, 1, false}, {}} {
		args := []string{"-o", "-n", "1:0:0", "-A", "1:set:2"} // legacy boot, which stays
		for bit := range 9 {
			on := bit < 4 && want.Priority>>bit&1 == 1 || bit >= 4 && bit < 8 && want.Tries>>(bit-4)&1 == 1 || bit == 8 && want.Successful
			if on {
				args = append(args, "-A", fmt.Sprintf("1:set:%d", 48+bit))
			}
		}
		if out, err := exec.Command("sgdisk", append(args, disk)...).CombinedOutput(); err != nil {
			t.Fatalf("sgdisk: %v: %s", err, out)
		}
		b, err := os.ReadFile(disk)
		if err != nil {
			t.Fatal(err)
		}
		attributes := binary.LittleEndian.Uint64(b[2*512+48:]) // first entry, UEFI 2.10, 5.3.3
		if got := Decode(attributes); got != want {
			t.Errorf("sgdisk %q: got %+v, want %+v", args, got, want)
		}
		if got, err := want.Encode(1 << 2); err != nil || got != attributes {
			t.Errorf("%+v: got %016x, %v; sgdisk has %016x", want, got, err, attributes)
		}
	}
}

func TestARecordFitsAndForeignBitsStay(t *testing.T) {
	for priority := range uint8(bootloader.MaxPriority + 1) {
		for tries := range uint8(bootloader.MaxTries + 1) {
			for _, successful := range []bool{false, true} {
				r := bootloader.Record{Priority: priority, Tries: tries, Successful: successful}
				got, err := Of(r).Encode(^uint64(0))
				if err != nil || got|mask != ^uint64(0) || Decode(got).Record() != r {
					t.Fatalf("%+v: got %016x, %v", r, got, err)
				}
			}
		}
	}
	if _, err := (Bits{Priority: 16}).Encode(0); err == nil {
		t.Error("priority 16 was stored")
	}
	if got := (Bits{15, 15, true}).Record(); got != (bootloader.Record{Priority: 2, Tries: 7, Successful: true}) {
		t.Errorf("got %+v", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(uint64(0x01f2_0000_0000_0004))
	f.Fuzz(func(t *testing.T, attributes uint64) {
		if got, err := Decode(attributes).Encode(attributes); err != nil || got != attributes {
			t.Fatalf("%016x became %016x, %v", attributes, got, err)
		}
	})
}
