package boot

import (
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

const (
	hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	line = "BOOT_IMAGE=(hd0,gpt5)/vmlinuz twinkeel.slot=b twinkeel.version=1.2 twinkeel.roothash=" + hash +
		" twinkeel.salt=0102 twinkeel.hashoffset=8192 twinkeel.trial=1 twinkeel.fallback=0 panic=1 console=ttyS0 quiet"
)

func TestAnOrderIsWhatTheLoaderWrote(t *testing.T) {
	o, err := ParseOrder(line + " twinkeel.record=PARTLABEL=bootenv twinkeel.deadman=90 init=/usr/lib/systemd/systemd\n")
	if err != nil {
		t.Fatal(err)
	}
	if o.Slot != partitions.B || o.Version != "1.2" || o.Root.String() != hash || string(o.Salt) != "\x01\x02" || o.HashOffset != 8192 || !o.Trial {
		t.Errorf("got %+v", o)
	}
	if o.RootPart != "PARTLABEL=root-b" || o.Data != "PARTLABEL=data" || o.Record != "PARTLABEL=bootenv" {
		t.Errorf("partitions: got %+v", o)
	}
	if o.Deadman != 90*time.Second || o.Settle != defaultSettle || o.Init != "/usr/lib/systemd/systemd" {
		t.Errorf("got %+v", o)
	}
}

func TestAnOrderThatMakesNoSenseIsRefusedAndSaysWhichSlot(t *testing.T) {
	for what, bad := range map[string]string{
		"no slot":                strings.Replace(line, "twinkeel.slot=b", "", 1),
		"slot c":                 strings.Replace(line, "slot=b", "slot=c", 1),
		"two slots":              line + " twinkeel.slot=a",
		"no root hash":           strings.Replace(line, "twinkeel.roothash="+hash, "", 1),
		"short root hash":        strings.Replace(line, hash, hash[1:], 1),
		"root hash of no digits": strings.Replace(line, hash, "`"+hash[1:], 1),
		"salt of 33 bytes":       strings.Replace(line, "salt=0102", "salt="+strings.Repeat("00", 33), 1),
		"negative size":          strings.Replace(line, "8192", "-8192", 1),
		"size of no blocks":      strings.Replace(line, "8192", "8193", 1),
		"endless size":           strings.Replace(line, "8192", "9223372036854771712", 1),
		"relative init":          line + " init=bin/sh",
		"no deadline":            line + " twinkeel.deadman=0",
		"endless deadline":       line + " twinkeel.deadman=4000000000",
		"data of a name only":    line + " twinkeel.data=sda1",
		"endless line":           line + strings.Repeat(" x", maxCmdline),
	} {
		o, err := ParseOrder(bad)
		if err == nil {
			t.Errorf("%s: got %+v", what, o)
		}
		if !strings.Contains(what, "slot") && what != "endless line" && (o.Slot != partitions.B || !o.Trial) {
			t.Errorf("%s: which slot to leave is lost: %+v", what, o)
		}
	}
}

// The form is that of linux/Documentation/admin-guide/device-mapper/verity.rst.
func TestTheVerityTableIsTheKernels(t *testing.T) {
	o, err := ParseOrder(line)
	if err != nil {
		t.Fatal(err)
	}
	got, sectors, err := o.table("254:5")
	if want := "1 254:5 254:5 4096 4096 2 2 sha256 " + hash + " 0102"; err != nil || got != want || sectors != 16 {
		t.Errorf("got %q, %d sectors, %v\nwant %q, 16 sectors", got, sectors, err, want)
	}
	o.Salt = release.Salt{}
	if got, _, _ = o.table("254:5"); !strings.HasSuffix(got, " -") {
		t.Errorf("without a salt: got %q", got)
	}
}

func FuzzParseOrder(f *testing.F) {
	f.Add(line)
	f.Add("twinkeel.slot=a twinkeel.slot=b init=")
	f.Add("twinkeel.root=PARTUUID={slot}{slot} twinkeel.hashoffset=0x2000")
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOrder(s)
		if err != nil {
			return
		}
		if o.Deadman <= 0 || o.Settle <= 0 || o.Init[0] != '/' || strings.Contains(o.RootPart, slotMark) {
			t.Errorf("%q: got %+v", s, o)
		}
		if _, _, err := o.table("1:1"); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func TestModulesGetTheirParametersFromTheCommandLine(t *testing.T) {
	got := parameters("quiet soft_dog.soft_margin=30 soft-dog.nowayout=1 soft_dogs.x=1 softdog.y=2", "soft-dog")
	if want := "soft_margin=30 nowayout=1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
