package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/agent/health"
	"github.com/twinkeel/twinkeel/partitions"
)

// contract is the example of the documentation.
const contract = `server = "https://updates.example.net"
channel = "stable"
compatible = "example-amd64"
state = "/var/lib/twinkeel"       # on the data partition
root = "/etc/twinkeel/root.json"  # factory trust
labels = ["canary"]
rollout = "directive"             # or "all"
[slots.a]
root = "PARTLABEL=root-a"         # PARTLABEL=, PARTUUID=, a device or a file
boot = "PARTLABEL=boot-a"
[slots.b]
root = "PARTLABEL=root-b"
boot = "PARTLABEL=boot-b"
[boot]
loader = "auto"
tries = 3
reboot = ["systemctl", "reboot"]
[poll]
interval = "30m"
[update]
windows = ["Mon-Fri 02:00-05:00"]
bandwidth = "2MiB/s"
[health]
deadline = "10m"
soak = "2m"
[[health.probe]]
name = "web"
http = "http://127.0.0.1/healthz"
required = true
`

// minimal sets what has no default.
const minimal = `server = "https://updates.example.net"
channel = "stable"
compatible = "example-amd64"
slots.a.root = "/dev/a"
slots.b.root = "/dev/b"
`

func parse(t *testing.T, texts ...string) (*config.Config, error) {
	t.Helper()
	var sources []config.Source
	for i, s := range texts {
		sources = append(sources, config.Source{Name: []string{"twinkeel.toml", "10.toml", "20.toml"}[i], Data: []byte(s)})
	}
	return config.Parse(sources...)
}

func TestTheDocumentedFileIsRead(t *testing.T) {
	c, err := parse(t, contract)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Server, want.Channel, want.Compatible, want.Fleet = "https://updates.example.net", "stable", "example-amd64", "stable"
	want.Labels = []string{"canary"}
	want.Slots[partitions.A] = map[string]string{"root": "PARTLABEL=root-a", "boot": "PARTLABEL=boot-a"}
	want.Slots[partitions.B] = map[string]string{"root": "PARTLABEL=root-b", "boot": "PARTLABEL=boot-b"}
	want.Update.Bandwidth = 2 << 20
	want.Health.Probes = []health.Probe{{Name: "web", HTTP: "http://127.0.0.1/healthz", Required: true, Timeout: 10 * time.Second}}
	if len(c.Update.Windows) != 1 || c.Update.Windows[0].String() != "Mon,Tue,Wed,Thu,Fri 02:00-05:00" {
		t.Errorf("windows: got %v", c.Update.Windows)
	}
	c.Update.Windows = nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c, want)
	}
	if got := strings.Join(c.Images(), " "); got != "boot root" {
		t.Errorf("images: got %q", got)
	}
}

func TestDefaultsStandForWhatIsNotSaid(t *testing.T) {
	c, err := parse(t, minimal)
	if err != nil {
		t.Fatal(err)
	}
	if c.Poll.Interval != 30*time.Minute || c.Boot.Tries != 3 || c.Rollout != "directive" || c.State != "/var/lib/twinkeel" || c.Update.Bandwidth != 0 {
		t.Errorf("got %+v", c)
	}
}

func TestBadFilesAreRefusedWithFileLineAndKey(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", minimal + "chanel = \"x\"", `twinkeel.toml:6: chanel: unknown key; is "channel" meant?`},
		{"unknown key in a table", minimal + "[poll]\n\nintervall = \"1h\"", `twinkeel.toml:8: poll.intervall: unknown key; is "poll.interval" meant?`},
		{"unknown table", minimal + "[colour]\nx = 1", `twinkeel.toml:6: colour: unknown key`},
		{"unknown key of a probe", minimal + "[[health.probe]]\nname = \"a\"\nunit = \"u\"\n[[health.probe]]\nname = \"b\"\nunits = \"u\"", `twinkeel.toml:11: health.probe[1].units: unknown key`},
		{"unknown slot", minimal + "slots.c.root = \"/dev/c\"", `twinkeel.toml:6: slots.c: unknown key`},
		{"quoted dots are no path", minimal + "\"boot.tries\" = 1", `twinkeel.toml:6: boot.tries: unknown key`},
		{"wrong type: string", minimal + "state = 3", `twinkeel.toml:6: state: got an integer, want a string`},
		{"wrong type: integer", minimal + "boot.tries = \"3\"", `twinkeel.toml:6: boot.tries: got a string, want an integer`},
		{"wrong type: array", minimal + "labels = \"canary\"", `twinkeel.toml:6: labels: got a string, want an array of strings`},
		{"wrong type: element", minimal + "labels = [\"a\", 1]", `twinkeel.toml:6: labels: element 1: got an integer, want a string`},
		{"wrong type: duration", minimal + "poll.interval = 30", `twinkeel.toml:6: poll.interval: got an integer, want a duration in quotes`},
		{"wrong type: table", minimal + "poll = 3", `twinkeel.toml:6: poll: got an integer, want a table`},
		{"wrong type: boolean", minimal + "[[health.probe]]\nname=\"a\"\nunit=\"u\"\nrequired = \"yes\"", `twinkeel.toml:9: health.probe[0].required: got a string, want true or false`},
		{"bad duration", minimal + "poll.interval = \"half an hour\"", `poll.interval: got "half an hour", want a duration`},
		{"duration out of bounds", minimal + "poll.interval = \"1s\"", `poll.interval: got 1s, want 1m0s to 168h0m0s`},
		{"bad window", minimal + "update.windows = [\"Mon-Fri\"]", `twinkeel.toml:6: update.windows: window "Mon-Fri"`},
		{"bad bandwidth", minimal + "update.bandwidth = \"fast\"", `update.bandwidth: got "fast", want a rate`},
		{"no bandwidth", minimal + "update.bandwidth = \"1B/s\"", `update.bandwidth: got "1B/s", want a rate`},
		{"tries out of bounds", minimal + "boot.tries = 0", `boot.tries: got 0, want 1 to 7`},
		{"relative path", minimal + "state = \"var\"", `state: got "var", want an absolute path`},
		{"bad rollout", minimal + "rollout = \"some\"", `rollout: got "some", want "directive" or "all"`},
		{"server with password", strings.Replace(minimal, "https://", "https://u:p@", 1), `twinkeel.toml:1: server: got`},
		{"server with slash", strings.Replace(minimal, ".net", ".net/", 1), `twinkeel.toml:1: server: got`},
		{"server by ftp", strings.Replace(minimal, "https", "ftp", 1), `twinkeel.toml:1: server: got`},
		{"bad channel", strings.Replace(minimal, "\"stable\"", "\"../x\"", 1), `twinkeel.toml:2: channel: got "../x"`},
		{"no channel", strings.Replace(minimal, "channel = \"stable\"", "", 1), `twinkeel.toml: channel: is missing`},
		{"empty reboot command", minimal + "boot.reboot = []", `boot.reboot: got [], want a command`},
		{"relative partition", minimal + "slots.a.boot = \"boot-a\"", `twinkeel.toml:6: slots.a.boot: partition "boot-a"`},
		{"image in one slot only", minimal + "slots.a.boot = \"/dev/c\"", `twinkeel.toml:6: slots.a.boot: slot b has no such image`},
		{"one partition twice", minimal + "slots.a.boot = \"/dev/c\"\nslots.b.boot = \"/dev/a\"", `twinkeel.toml:7: slots.b.boot: /dev/a is the same partition as slots.a.root`},
		{"probe of two kinds", minimal + "[[health.probe]]\nname = \"a\"\nunit = \"u\"\ntcp = \"h:1\"", `twinkeel.toml:6: health.probe[0]: got 2 of unit, command, http and tcp, want exactly one`},
		{"probe without a name", minimal + "[[health.probe]]\nunit = \"u\"", `twinkeel.toml:6: health.probe[0]: name`},
		{"probe twice", minimal + "[[health.probe]]\nname = \"a\"\nunit = \"u\"\n[[health.probe]]\nname = \"a\"\nunit = \"v\"", `twinkeel.toml:9: health.probe[1]: a probe called "a"`},
		{"probe longer than the deadline", minimal + "health.deadline=\"5s\"\n[[health.probe]]\nname = \"a\"\nunit = \"u\"\ntimeout=\"6s\"", `health.probe a: timeout: got 6s, want at most the deadline of 5s`},
		{"no TOML", minimal + "x = = 1", `twinkeel.toml:6:`},
		{"key twice", minimal + "channel = \"x\"", `twinkeel.toml:`},
		{"control character", minimal + "state = \"/var/\\u001b[2J\"", `state: got "/var/\x1b[2J"`},
		{"too large", strings.Repeat("#", 300<<10), `twinkeel.toml: got more than 262144 bytes`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse(t, c.text)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error\n%v\nwant one with\n%s", err, c.want)
			}
		})
	}
}

func TestEverythingWrongIsReportedAtOnce(t *testing.T) {
	_, err := parse(t, minimal+"chanel = 1\nboot.tries = 9\n", "[poll]\ninterval = \"1s\"\n")
	want := strings.Join([]string{
		`twinkeel.toml:6: chanel: unknown key; is "channel" meant?`,
		`twinkeel.toml:7: boot.tries: got 9, want 1 to 7`,
		`10.toml:2: poll.interval: got 1s, want 1m0s to 168h0m0s`,
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestDropInsWinKeyByKeyAndProbesAddUp(t *testing.T) {
	probe := func(name, unit string) string {
		return "[[health.probe]]\nname = \"" + name + "\"\nunit = \"" + unit + "\"\n"
	}
	c, err := parse(t, minimal+"poll.interval = \"1h\"\nboot.tries = 5\nlabels = [\"a\", \"b\"]\n"+probe("x", "one")+probe("y", "two"),
		"labels = [\"c\"]\n[slots.a]\nboot = \"/dev/c\"\n[slots.b]\nboot = \"/dev/d\"\n[poll]\ninterval = \"2h\"\n",
		probe("x", "three")+probe("z", "four"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Poll.Interval != 2*time.Hour || c.Boot.Tries != 5 || strings.Join(c.Labels, ",") != "c" || strings.Join(c.Images(), ",") != "boot,root" {
		t.Errorf("got %+v", c)
	}
	var got []string
	for _, p := range c.Health.Probes {
		got = append(got, p.Name+"="+p.Unit)
	}
	if strings.Join(got, " ") != "x=three y=two z=four" {
		t.Errorf("probes: got %v", got)
	}
}

func TestBandwidthUnits(t *testing.T) {
	for s, want := range map[string]int64{"2MiB/s": 2 << 20, "1.5 MB/s": 1_500_000, "64KiB": 64 << 10, "9000B/s": 9000, "": 0} {
		c, err := parse(t, minimal+"update.bandwidth = \""+s+"\"")
		if err != nil || c.Update.Bandwidth != want {
			t.Errorf("%q: got %v, %v, want %d", s, c, err, want)
		}
	}
}

func TestLoadReadsDropInsInTheOrderOfTheirNames(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("twinkeel.toml", minimal+"hostID = \"h\"")
	write("conf.d/20-b.toml", "fleet = \"second\"")
	write("conf.d/10-a.toml", "fleet = \"first\"\nhostID = \"x\"")
	write("conf.d/.hidden.toml", "nonsense")
	write("conf.d/30-c.toml.bak", "nonsense")
	c, err := config.Load(filepath.Join(dir, "twinkeel.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Fleet != "second" || c.HostID != "x" {
		t.Errorf("got fleet %q, host %q", c.Fleet, c.HostID)
	}
	write("conf.d/40-d.toml", "nonsense = 1")
	if _, err := config.Load(filepath.Join(dir, "twinkeel.toml")); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "conf.d/40-d.toml")+":1: nonsense: unknown key") {
		t.Errorf("got %v", err)
	}
	if _, err := config.Load(filepath.Join(dir, "absent.toml")); err == nil {
		t.Error("a file that is not there was read")
	}
	if _, err := config.Load(filepath.Join(dir, "conf.d")); err == nil {
		t.Error("a directory was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(contract))
	f.Add([]byte(minimal))
	f.Add([]byte("slots = {a = {root = \"/a\"}, b = {root = \"/b\"}}\n[[health.probe]]\n[[health.probe]]\n"))
	f.Add([]byte("health.probe = [1, {name = 2}]\nlabels = [[[]]]\n"))
	f.Add([]byte("a.b.c = 1\n[a]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := config.Parse(config.Source{Name: "f", Data: b})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("error without its file: %v", err)
			}
			return
		}
		if c.Server == "" || c.Channel == "" || c.Boot.Tries < 1 || c.Slots[partitions.A]["root"] == "" || c.Slots[partitions.B]["root"] == "" {
			t.Fatalf("incomplete configuration accepted: %+v", c)
		}
	})
}
