package config_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/release"
)

// plain is a host without slots, which runs applications only.
const plain = `server = "https://updates.example.net"
channel = "stable"
[apps]
allow = ["outbound", "device=/dev/ttyUSB0"]
keep = 2
isolation = "sandbox"
[[app]]
name = "web"
publisher = "acme"
version = "2.3.1"
deny = ["host-network"]
`

func TestAHostWithoutSlotsMayRunApplications(t *testing.T) {
	c, err := parse(t, plain)
	if err != nil {
		t.Fatal(err)
	}
	v, err := release.ParseVersion("2.3.1")
	if err != nil {
		t.Fatal(err)
	}
	want := []config.App{{Name: "web", Publisher: "acme", Version: v, Deny: []string{"host-network"}}}
	if c.Apps.Isolation != "sandbox" {
		t.Errorf("least isolation: got %q, want sandbox", c.Apps.Isolation)
	}
	if c.HasSlots() || !reflect.DeepEqual(c.Apps.Wanted, want) || c.Apps.Keep != 2 || len(c.Apps.Allow) != 2 {
		t.Errorf("got slots %t, %+v; want none, %+v", c.HasSlots(), c.Apps, want)
	}
	over := "[[app]]\nname = \"web\"\npublisher = \"other\"\n[[app]]\nname = \"db\"\npublisher = \"acme\"\nhold = true\n"
	if c, err = parse(t, plain, over); err != nil || len(c.Apps.Wanted) != 2 || c.Apps.Wanted[0].Publisher != "other" || !c.Apps.Wanted[1].Hold {
		t.Errorf("drop-in: got %+v, %v", c, err)
	}
}

func TestBadApplicationsAreRefusedWithFileLineAndKey(t *testing.T) {
	app := "[[app]]\nname = \"web\"\npublisher = \"acme\"\n"
	for name, tc := range map[string]struct{ text, want string }{
		"no slots, no apps":    {"server = \"https://x\"\nchannel = \"stable\"\ncompatible = \"pc\"\n", "slots.a.root: is missing"},
		"unknown key":          {minimal + app + "channel = \"x\"\n", "app[0].channel: unknown key"},
		"unknown key of apps":  {minimal + "[apps]\npaths = \"/x\"\n", "apps.paths: unknown key"},
		"unknown permission":   {minimal + "[apps]\nallow = [\"everything\"]\n", "apps.allow: permission: got \"everything\""},
		"no publisher":         {minimal + "[[app]]\nname = \"web\"\n", "app[0]: publisher"},
		"a path as a name":     {minimal + "[[app]]\nname = \"../web\"\npublisher = \"acme\"\n", "app[0]: name"},
		"one name twice":       {minimal + app + app, "app[1]: an app called \"web\" stands in this file already"},
		"no version":           {minimal + app + "version = 2\n", "app[0].version"},
		"no level":             {minimal + "[apps]\nisolation = \"chroot\"\n", "apps.isolation: isolation: got \"chroot\", want one of: container sandbox vm"},
		"keep nothing":         {minimal + "[apps]\nkeep = 0\n", "apps.keep: got 0, want 1 to 64"},
		"a network that is no": {minimal + "[apps]\nnetwork = \"10.0.0.1/16\"\n", "apps.network"},
		"no table":             {minimal + "app = 3\n", "app: "},
	} {
		if _, err := parse(t, tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tc.want)
		}
	}
}
