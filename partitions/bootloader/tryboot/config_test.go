package tryboot

import (
	"strings"
	"testing"
)

func TestSetNamesBothPartitionsAndKeepsTheRest(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"empty":         {"", "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"},
		"as documented": {"[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2\n", "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"},
		"no section":    {"boot_partition = 7\r\n", "boot_partition=2\ntryboot_a_b=1\n[tryboot]\nboot_partition=3\n"},
		"others":        {"# ours\n[tryboot]\nboot_partition=1\nboot_partition=9\n[gpio4=1]\nboot_partition=5\n", "# ours\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n[gpio4=1]\nboot_partition=5\n"},
	} {
		c, err := Parse([]byte(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Set(2, 3); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Encode(); err != nil || string(got) != tt.want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, tt.want)
		}
		if a, b, err := c.Partitions(); err != nil || a != 2 || b != 3 {
			t.Errorf("%s: got %d, %d, %v", name, a, b, err)
		}
	}
}

func TestWhatTheFirmwareWouldNotReadIsRefused(t *testing.T) {
	if _, err := Parse(make([]byte, MaxSize+1)); err == nil {
		t.Error("513 bytes were read")
	}
	c, err := Parse([]byte("#" + strings.Repeat("x", MaxSize-2) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Set(2, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Encode(); err == nil {
		t.Error("more than 512 bytes were written")
	}
	for _, p := range [][2]int{{0, 2}, {2, 2}, {2, 64}, {-1, 2}} {
		if err := c.Set(p[0], p[1]); err == nil {
			t.Errorf("partitions %v were set", p)
		}
	}
	for _, in := range []string{"boot_partition=x", "boot_partition=0", "[tryboot]\nboot_partition=64"} {
		if c, err = Parse([]byte(in)); err != nil {
			t.Fatal(err)
		}
		if a, b, err := c.Partitions(); err == nil {
			t.Errorf("%q: got %d, %d", in, a, b)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"))
	f.Add([]byte("#\r\n[x]\n=\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		if err := c.Set(2, 3); err != nil {
			t.Fatal(err)
		}
		out, err := c.Encode()
		if err != nil {
			return // too long now
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatal(err)
		}
		if a, b, err := again.Partitions(); err != nil || a != 2 || b != 3 {
			t.Fatalf("%q: got %d, %d, %v", out, a, b, err)
		}
		if err := again.Set(2, 3); err != nil {
			t.Fatal(err)
		}
		if twice, err := again.Encode(); err != nil || string(twice) != string(out) {
			t.Fatalf("%q set again became %q, %v", out, twice, err)
		}
	})
}
