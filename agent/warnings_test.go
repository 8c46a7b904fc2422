package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/signing"
)

func TestWarningsComeBeforeAnythingIsRefused(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	good := func() signing.State {
		return signing.State{TimeFloor: now.Add(-time.Hour), Roles: []signing.RoleState{
			{Name: "root", Version: 1, Expires: now.AddDate(1, 0, 0)}, {Name: "timestamp", Version: 9, Expires: now.Add(71 * time.Hour)},
			{Name: "snapshot", Version: 3, Expires: now.Add(48 * time.Hour)}, {Name: "targets", Version: 1, Expires: now.AddDate(0, 3, 0)},
			{Name: "fleet-stable", Version: 1, Expires: now.Add(48 * time.Hour)}, {Name: "os-stable", Version: 1, Expires: now.AddDate(0, 1, 0)}}}
	}
	for name, c := range map[string]struct {
		change func(*signing.State)
		want   string
	}{
		"all is well":            {func(*signing.State) {}, ""},
		"root ends soon":         {func(s *signing.State) { s.Roles[0].Expires = now.Add(13 * 24 * time.Hour) }, "root expires at"},
		"releases end soon":      {func(s *signing.State) { s.Roles[5].Expires = now.Add(24 * time.Hour) }, "os-stable expires at"},
		"timestamp not renewed":  {func(s *signing.State) { s.TimeFloor = now.Add(-72 * time.Hour) }, "half its life"},
		"fleet has expired":      {func(s *signing.State) { s.Roles[4].Expires = now }, "fleet-stable expired"},
		"log refused":            {func(s *signing.State) { s.Log.Refused = []string{"noon: the log forked"} }, "refused at noon: the log forked"},
		"log missing, warn only": {func(s *signing.State) { s.Log.Warning = "release log: no" }, "release log: no"},
	} {
		s := good()
		c.change(&s)
		got := strings.Join(trustWarnings(s, now), "\n")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
