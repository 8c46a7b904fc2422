package policy_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/agent/policy"
	"github.com/twinkeel/twinkeel/release"
)

func TestPollStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy.Poll{
			Interval: time.Duration(rapid.Int64Range(0, int64(10*24*time.Hour)).Draw(t, "interval")),
			HostID:   rapid.String().Draw(t, "host"),
		}
		n := rapid.Uint64().Draw(t, "n")
		failures := rapid.IntRange(0, 1<<30).Draw(t, "failures")
		asked := time.Duration(rapid.Int64Range(-1, int64(1000*time.Hour)).Draw(t, "retry after"))
		mean := min(max(p.Interval, policy.MinInterval), policy.MaxInterval)

		if got := p.Next(n, 0, 0); got < mean*8/10-1 || got > mean*12/10+1 {
			t.Fatalf("after success: got %s, want %s ± 20 %%", got, mean)
		}
		got := p.Next(n, failures, asked)
		if most := max(mean, policy.MaxBackoff)*12/10 + 1; got > most {
			t.Fatalf("after %d failures: got %s, want at most %s", failures, got, most)
		}
		if got < mean*8/10-1 {
			t.Fatalf("after %d failures: got %s, sooner than after success", failures, got)
		}
		if got < min(asked, policy.MaxRetryAfter) {
			t.Fatalf("asked to wait %s: got %s", asked, got)
		}
		if first := p.First(n); first < 0 || first >= policy.FirstWithin {
			t.Fatalf("first poll after %s, want 0 to %s", first, policy.FirstWithin)
		}
	})
}

func TestFailuresDoubleTheWait(t *testing.T) {
	p := policy.Poll{Interval: 30 * time.Minute, HostID: "h"}
	base := p.Next(7, 0, 0)
	for failures, times := range []time.Duration{1, 2, 4, 8, 8, 8} {
		if got := p.Next(7, failures, 0); (got - base*times).Abs() > time.Microsecond {
			t.Errorf("after %d failures: got %s, want %s", failures, got, base*times)
		}
	}
}

func TestServersRequestToWaitIsRespected(t *testing.T) {
	p := policy.Poll{Interval: time.Minute, HostID: "h"}
	for asked, least := range map[time.Duration]time.Duration{30 * time.Minute: 30 * time.Minute, 100 * time.Hour: time.Hour} {
		if got := p.Next(1, 0, asked); got < least || got > least*12/10 {
			t.Errorf("asked for %s: got %s, want %s to %s", asked, got, least, least*12/10)
		}
	}
}

// Hosts that lost their server together do not come back together: over many hosts
// the polls of one interval are spread over all of its 40 %.
func TestHostsDriftApart(t *testing.T) {
	const hosts, bins = 10_000, 20
	var count [bins]int
	for i := range hosts {
		p := policy.Poll{Interval: time.Hour, HostID: time.Duration(i).String()}
		w := p.Next(1, 0, 0) - 48*time.Minute
		count[min(int(w*bins/(24*time.Minute)), bins-1)]++
	}
	for i, c := range count {
		if c < hosts/bins*8/10 || c > hosts/bins*12/10 {
			t.Errorf("bin %d of %d holds %d hosts, want about %d", i, bins, c, hosts/bins)
		}
	}
}

func TestHoldEndsAtItsTime(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		set   bool
		until time.Time
		code  string
	}{
		{"none", false, time.Time{}, ""},
		{"for ever", true, time.Time{}, policy.CodeHeld},
		{"not yet over", true, now.Add(time.Second), policy.CodeHeld},
		{"over", true, now, ""},
	} {
		if got := policy.Hold(c.set, c.until, now, "why"); got.Code != c.code || got.OK() != (c.code == "") {
			t.Errorf("%s: got %+v, want code %q", c.name, got, c.code)
		}
	}
}

func TestClosedWindowSaysWhenItOpens(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	got := policy.InWindow(windows(t, "02:00-03:00"), now, time.UTC)
	want := policy.Decision{
		Code: policy.CodeWindow, Text: "the next update window opens at Sun 2026-11-22 02:00 UTC",
		Until: time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC),
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := policy.InWindow(nil, now, time.UTC); !got.OK() {
		t.Errorf("no windows: got %+v", got)
	}
}

func TestRolloutFollowsTheDirective(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	v, err := release.ParseVersion("2")
	if err != nil {
		t.Fatal(err)
	}
	directive := func(change func(*release.Directive)) *release.Directive {
		d := &release.Directive{Format: 1, Channel: "stable", Version: v, Permille: 1000}
		change(d)
		return d
	}
	for _, c := range []struct {
		name, mode string
		d          *release.Directive
		code       string
	}{
		{"all hosts", "directive", directive(func(*release.Directive) {}), ""},
		{"no host", "directive", directive(func(d *release.Directive) { d.Permille = 0 }), policy.CodeRollout},
		{"no host, but this one takes all", "all", directive(func(d *release.Directive) { d.Permille = 0 }), ""},
		{"no directive", "directive", nil, policy.CodeNoDirective},
		{"no directive, but this one takes all", "all", nil, ""},
		{"paused", "directive", directive(func(d *release.Directive) { d.Paused = true }), policy.CodePaused},
		{"paused stops every host", "all", directive(func(d *release.Directive) { d.Paused = true }), policy.CodePaused},
		{"later", "all", directive(func(d *release.Directive) { d.NotBefore = now.Add(1) }), policy.CodeNotBefore},
		{"at its time", "directive", directive(func(d *release.Directive) { d.NotBefore = now }), ""},
	} {
		if got := policy.Rollout(c.mode, c.d, "host", now); got.Code != c.code {
			t.Errorf("%s: got %+v, want code %q", c.name, got, c.code)
		}
	}
}
