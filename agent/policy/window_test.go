package policy_test

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones of these tests, also where the machine has none

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/agent/policy"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func windows(t testing.TB, list ...string) policy.Windows {
	t.Helper()
	ws, err := policy.ParseWindows(list)
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestWindowsOpenAtTheRightLocalTimes(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	// 2026-11-21 is a Saturday.
	for _, c := range []struct {
		name    string
		windows []string
		now     string // local
		next    string // local
	}{
		{"inside", []string{"Mon-Fri 02:00-05:00"}, "2026-11-20 03:00", "2026-11-20 03:00"},
		{"at the beginning", []string{"Mon-Fri 02:00-05:00"}, "2026-11-20 02:00", "2026-11-20 02:00"},
		{"the end is outside", []string{"Mon-Fri 02:00-05:00"}, "2026-11-20 05:00", "2026-11-23 02:00"},
		{"over the weekend", []string{"Mon-Fri 02:00-05:00"}, "2026-11-21 03:00", "2026-11-23 02:00"},
		{"over midnight, before", []string{"Sat 22:00-04:00"}, "2026-11-21 23:30", "2026-11-21 23:30"},
		{"over midnight, after", []string{"Sat 22:00-04:00"}, "2026-11-22 03:59", "2026-11-22 03:59"},
		{"over midnight belongs to its first day", []string{"Sat 22:00-04:00"}, "2026-11-21 03:00", "2026-11-21 22:00"},
		{"the earlier of several", []string{"Sun 12:00-13:00", "Sat 20:00-21:00"}, "2026-11-21 10:00", "2026-11-21 20:00"},
		{"range over the end of the week", []string{"Fri-Mon 00:00-24:00"}, "2026-11-24 00:00", "2026-11-27 00:00"},
		{"every day", []string{"02:00-03:00"}, "2026-11-21 10:00", "2026-11-22 02:00"},
		{"end at midnight", []string{"Sat 22:00-24:00"}, "2026-11-22 00:00", "2026-11-28 22:00"},
		{"none is always open", nil, "2026-11-21 10:00", "2026-11-21 10:00"},
		// Clocks go from 02:00 to 03:00 on 2026-03-29 and from 03:00 to 02:00 on 2026-10-25.
		{"within the skipped hour it opens after it", []string{"Sun 02:15-02:45"}, "2026-03-29 01:00", "2026-03-29 03:00"},
		{"begins in the skipped hour", []string{"Sun 02:30-04:00"}, "2026-03-29 01:00", "2026-03-29 03:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parse := func(s string) time.Time {
				v, err := time.ParseInLocation("2006-01-02 15:04", s, berlin)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			if got, want := windows(t, c.windows...).Next(parse(c.now), berlin), parse(c.next); !got.Equal(want) {
				t.Errorf("next after %s: got %s, want %s", c.now, got.In(berlin), want)
			} else if !windows(t, c.windows...).Open(got, berlin) {
				t.Errorf("not open at %s", got.In(berlin))
			}
		})
	}
}

func TestWindowOpensOnceWhenAnHourIsRepeated(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	ws := windows(t, "Sun 02:00-02:30")
	first := time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC) // 02:00 summer time
	if !ws.Open(first, berlin) {
		t.Error("closed at the first 02:00")
	}
	if again := first.Add(time.Hour); ws.Open(again, berlin) {
		t.Errorf("open again at %s", again.In(berlin))
	}
}

func TestWindowsAreRefused(t *testing.T) {
	for s, want := range map[string]string{
		"":                     "want",
		"02:00":                "two times",
		"Mon 02:00-02:00":      "same time",
		"Mon 24:00-02:00":      "24:00",
		"Foo 02:00-03:00":      "days",
		"Mon- 02:00-03:00":     "days",
		"Mon 2:00-03:00":       "HH:MM",
		"Mon 02:60-03:00":      "HH:MM",
		"Mon 25:00-03:00":      "HH:MM",
		"Mon 02:00-24:01":      "HH:MM",
		"Mon Tue 02:00-03:00":  "want",
		"Mon 02:00-03:00-4:00": "HH:MM",
	} {
		if _, err := policy.ParseWindow(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want one with %q", s, err, want)
		}
	}
}

func TestWindowTextReadsBack(t *testing.T) {
	for _, s := range []string{"Mon-Fri 02:00-05:00", "22:00-04:00", "Sun,Wed-Thu 00:00-24:00"} {
		w := windows(t, s)[0]
		again := windows(t, w.String())[0]
		if again != w {
			t.Errorf("%q: reads back as %q", s, again)
		}
	}
}

// The next opening is never in the past, never more than nine days away, really open,
// and nothing is open between now and it.
func TestNextOpeningIsTheFirst(t *testing.T) {
	zones := []*time.Location{time.UTC, zone(t, "Europe/Berlin"), zone(t, "Australia/Lord_Howe"), zone(t, "America/St_Johns"), zone(t, "Africa/Casablanca")}
	rapid.Check(t, func(t *rapid.T) {
		loc := rapid.SampledFrom(zones).Draw(t, "zone")
		days := rapid.SampledFrom([]string{"", "Mon ", "Sat-Sun ", "Fri-Mon ", "Tue,Thu "}).Draw(t, "days")
		minute := rapid.IntRange(0, 24*4-1)
		b, e := minute.Draw(t, "begin"), minute.Draw(t, "end")
		if b == e {
			t.Skip("no length")
		}
		clock := func(q int) string { return time.Date(2000, 1, 1, 0, 15*q, 0, 0, time.UTC).Format("15:04") }
		w, err := policy.ParseWindow(days + clock(b) + "-" + clock(e))
		if err != nil {
			t.Fatal(err)
		}
		ws := policy.Windows{w}
		now := time.Unix(rapid.Int64Range(1.6e9, 1.9e9).Draw(t, "now"), 0)
		next := ws.Next(now, loc)
		if next.Before(now) || next.Sub(now) > 9*24*time.Hour {
			t.Fatalf("%s: next opening after %s is %s", w, now.In(loc), next.In(loc))
		}
		if !ws.Open(next, loc) {
			t.Fatalf("%s: not open at its next opening %s", w, next.In(loc))
		}
		if gap := next.Sub(now); gap > 0 {
			probe := now.Add(time.Duration(rapid.Int64Range(0, int64(gap)-1).Draw(t, "probe")))
			if ws.Open(probe, loc) {
				t.Fatalf("%s: open at %s, before the next opening %s", w, probe.In(loc), next.In(loc))
			}
		}
	})
}

func FuzzParseWindow(f *testing.F) {
	for _, s := range []string{"Mon-Fri 02:00-05:00", "22:00-04:00", "Sun,Wed 00:00-24:00", "x", "-", " "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := policy.ParseWindow(s)
		if err != nil {
			return
		}
		again, err := policy.ParseWindow(w.String())
		if err != nil || again != w {
			t.Fatalf("%q: text %q reads back as %v, %v", s, w, again, err)
		}
		policy.Windows{w}.Next(time.Unix(1_800_000_000, 0), time.UTC)
	})
}
