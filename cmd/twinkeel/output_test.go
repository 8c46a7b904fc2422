package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/release"
)

func version(t *testing.T, s string) *release.Version {
	t.Helper()
	v, err := release.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return &v
}

func TestStatusReadsAsATable(t *testing.T) {
	var b bytes.Buffer
	showStatus(&printer{&b}, &agent.Status{
		Phase: agent.Idle, Running: "a", Next: "a", Channel: "stable", Epoch: 3,
		Slots: []agent.SlotStatus{
			{Name: "a", Version: version(t, "1.4.0"), Priority: 2, Successful: true, Running: true},
			{Name: "b", Version: version(t, "1.3.2"), Priority: 1, Successful: true},
		},
		Offer:    &agent.Offer{Version: *version(t, "1.5.0"), DownloadBytes: 5 << 20, Route: "delta"},
		Reasons:  []agent.Reason{{Code: agent.CodeHeld, Text: "held: \x1b[2Jend of\nquarter"}},
		Rollback: agent.RollbackStatus{Possible: true},
	})
	want := `slot a  running  1.4.0  good  next boot
slot b  idle     1.3.2  good  rollback target
phase idle  channel stable  epoch 3
last check none since the agent started
offer 1.5.0  5.0 MiB to download (delta)
reason  held  held: \x1b[2Jend of\x0aquarter
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestSlotsOnTrialAndOffAreTold(t *testing.T) {
	s := &agent.Status{Next: "b"}
	for _, c := range []struct {
		slot agent.SlotStatus
		want string
	}{
		{agent.SlotStatus{Name: "a"}, "slot a|idle|unknown|off|"},
		{agent.SlotStatus{Name: "b", Priority: 2, Tries: 1}, "slot b|idle|unknown|trial, 1 try left|next boot"},
		{agent.SlotStatus{Name: "b", Priority: 2, Tries: 0, Running: true}, "slot b|running|unknown|trial, 0 tries left|next boot"},
	} {
		if got := strings.Join(slotRow(s, c.slot), "|"); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestNothingFromOutsideReachesTheTerminalRaw(t *testing.T) {
	for in, want := range map[string]string{
		"plain äöü 漢字 →":  "plain äöü 漢字 →",
		"\x1b]0;title\a":  `\x1b]0;title\x07`,
		"two\nlines\r\t":  `two\x0alines\x0d\x09`,
		"\u009b31m":       `\u009b31m`,
		"\u202Egnp.exe":   `\u202egnp.exe`,
		"\xff\xfe":        `\xff\xfe`,
		"a\u2028b\u200bc": `a\u2028b\u200bc`,
		"del\x7f nul\x00": `del\x7f nul\x00`,
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"x", "\x1b[2J", "\xff", "\u202e", "\u0085"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		for _, r := range got {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u202e' {
				t.Fatalf("%q: %q holds %U", s, got, r)
			}
		}
		if clean(got) != got {
			t.Fatalf("%q: cleaning twice gives another text", s)
		}
	})
}

func TestProgressIsABarOnATerminalAndLinesElsewhere(t *testing.T) {
	events := []agent.Event{{Step: "stage", Text: "root", Total: 1000}}
	for n := range int64(100) {
		events = append(events, agent.Event{Step: "stage", Text: "root", Done: 10 * (n + 1), Total: 1000})
	}
	events = append(events, agent.Event{Step: "arm", Text: "slot b\x1b"})
	var lines, bar bytes.Buffer
	for _, p := range []*progress{{out: &printer{&lines}}, {out: &printer{&bar}, terminal: true}} {
		for _, e := range events {
			p.show(e)
		}
		p.finish()
	}
	if got := strings.Count(lines.String(), "\n"); got != 12 || strings.ContainsAny(lines.String(), "\r\x1b") {
		t.Errorf("elsewhere: got %d lines, want 12:\n%s", got, lines.String())
	}
	if !strings.HasPrefix(lines.String(), "stage: root, 0 B of 1000 B\n") || !strings.HasSuffix(lines.String(), "\narm: slot b\\x1b\n") {
		t.Errorf("elsewhere: got\n%s", lines.String())
	}
	if got := strings.Count(bar.String(), "\n"); got != 2 || !strings.Contains(bar.String(), "\rstage: root [==============================] 100 % of 1000 B\x1b[K\n") {
		t.Errorf("on a terminal: got %q", bar.String())
	}
}

func TestProgressSurvivesNonsense(t *testing.T) {
	var b bytes.Buffer
	p := &progress{out: &printer{&b}, terminal: true}
	for _, e := range []agent.Event{{}, {Step: "x", Done: -5, Total: 3}, {Step: "x", Done: 9, Total: 3}, {Step: "x", Done: 1 << 62, Total: 1}} {
		p.show(e)
	}
}

func TestHistoryTellsEachEntryWithItsEvidence(t *testing.T) {
	var b bytes.Buffer
	when := time.Date(2026, 11, 21, 2, 0, 0, 0, time.Local)
	showHistory(&printer{&b}, []agent.HistoryEntry{
		{Seq: 1, Time: when, Kind: "update", Result: "rolled-back", Slot: "b", From: *version(t, "1.0"), To: *version(t, "2.0"),
			Code: agent.CodeUnhealthy, Text: "probe web failed", Bytes: 2048, Evidence: []string{"web: \x1bdown"}, Kernel: []string{"kernel: slot b", "[    1.0] oops\x1b"}},
	})
	want := when.Format("2006-01-02 15:04:05 MST") + "  update  rolled-back  1.0 → 2.0  slot b  2.0 KiB  [unhealthy]\n" +
		"    probe web failed\n    | web: \\x1bdown\n    | kernel: slot b\n    | [    1.0] oops\\x1b\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestHoldsEndAtTimesPeopleWrite(t *testing.T) {
	zone := time.FixedZone("X", 2*3600)
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, zone)
	for in, want := range map[string]string{
		"2026-12-01":                "2026-11-30T22:00:00Z",
		"2026-12-01 08:00":          "2026-12-01T06:00:00Z",
		"2026-12-01T08:00:00Z":      "2026-12-01T08:00:00Z",
		"2026-12-01T08:00:00+01:00": "2026-12-01T07:00:00Z",
		"48h":                       "2026-11-23T10:00:00Z",
		"-1h":                       "", "tomorrow": "", "0s": "", "2026-13-01": "",
	} {
		got, err := parseUntil(in, now)
		if (err != nil) != (want == "") || err == nil && got.Format(time.RFC3339) != want {
			t.Errorf("%q: got %s, %v, want %q", in, got, err, want)
		}
	}
}

func TestAFollowedLogShowsEachWholeLineOnce(t *testing.T) {
	const at = "2026-11-21T12:00:00."
	var f tail
	for _, step := range []struct{ text, want string }{
		{at + "001Z a\n" + at + "002Z b\n", at + "001Z a\n" + at + "002Z b\n"},
		{at + "002Z b\n", ""},
		{at + "002Z b\n" + at + "002Z b\n" + at + "003Z hal", at + "002Z b\n"},
		{at + "002Z b\n" + at + "002Z b\n" + at + "003Z half\n", at + "003Z half\n"},
		{"f\n" + at + "003Z half\n" + at + "003Z c\n" + at + "004Z d\n", at + "003Z c\n" + at + "004Z d\n"},
		{"", ""},
		{at + "004Z d\n" + at + "004Z d\n", at + "004Z d\n"},
	} {
		if got := f.next(step.text); got != step.want {
			t.Errorf("%q: got %q, want %q", step.text, got, step.want)
		}
	}
}

func TestSinceCountsBackFromNow(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	if got, err := parseSince("90m", now); err != nil || !got.Equal(now.Add(-90*time.Minute)) {
		t.Errorf("90m: got %s, %v", got, err)
	}
	if got, err := parseSince("2026-11-20 08:00", now); err != nil || got.Day() != 20 {
		t.Errorf("a time: got %s, %v", got, err)
	}
	for _, bad := range []string{"", "-1h", "yesterday"} {
		if got, err := parseSince(bad, now); err == nil || !strings.HasPrefix(err.Error(), "since: got") {
			t.Errorf("%q: got %s, %v", bad, got, err)
		}
	}
}
