package health_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent/health"
)

func TestProbesThatCannotBeCarriedOutAreRefused(t *testing.T) {
	for _, c := range []struct {
		probe health.Probe
		want  string // "" is valid
	}{
		{health.Probe{Name: "a", Unit: "nginx.service"}, ""},
		{health.Probe{Name: "a", Unit: `dev-disk-by\x2dlabel-x.device`}, ""},
		{health.Probe{Name: "a", Command: []string{"/bin/true", "-x"}}, ""},
		{health.Probe{Name: "a", HTTP: "http://[::1]:80/healthz?x=1"}, ""},
		{health.Probe{Name: "a", TCP: "[::1]:22"}, ""},
		{health.Probe{Unit: "x"}, "name"},
		{health.Probe{Name: "a b", Unit: "x"}, "name"},
		{health.Probe{Name: "a\x1b", Unit: "x"}, "name"},
		{health.Probe{Name: "a"}, "exactly one"},
		{health.Probe{Name: "a", Unit: "x", TCP: "h:1"}, "exactly one"},
		{health.Probe{Name: "a", Unit: "-x"}, "unit"},
		{health.Probe{Name: "a", Unit: "x y"}, "unit"},
		{health.Probe{Name: "a", Command: []string{"true"}}, "absolute"},
		{health.Probe{Name: "a", Command: []string{"/bin/true", "a\x00b"}}, "NUL"},
		{health.Probe{Name: "a", HTTP: "file:///etc/passwd"}, "http"},
		{health.Probe{Name: "a", HTTP: "http://u:p@h/"}, "http"},
		{health.Probe{Name: "a", HTTP: "http:///x"}, "http"},
		{health.Probe{Name: "a", TCP: "host"}, "tcp"},
		{health.Probe{Name: "a", TCP: ":80"}, "tcp"},
		{health.Probe{Name: "a", TCP: "h:0"}, "tcp"},
		{health.Probe{Name: "a", TCP: "h:65536"}, "tcp"},
		{health.Probe{Name: "a", Unit: "x", Timeout: -1}, "timeout"},
		{health.Probe{Name: "a", Unit: "x", Timeout: time.Hour}, "timeout"},
	} {
		err := c.probe.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got error %v, want %q", c.probe, err, c.want)
		}
	}
}
