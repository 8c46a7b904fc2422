package policy

import (
	"fmt"
	"strings"
	"time"
)

// Window is a weekly stretch of local time, such as "Mon-Fri 02:00-05:00". It begins
// on the days it names; if it ends before it begins, it ends on the day after.
type Window struct {
	days       [7]bool // by time.Weekday of the beginning
	begin, end int     // minutes after midnight; end <= begin means the next day
}

// Windows is a set of windows; an empty set is always open.
type Windows []Window

var weekdays = [7]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

const minutesPerDay = 24 * 60

// ParseWindow reads "[DAYS ]HH:MM-HH:MM". DAYS are names (Mon) or ranges (Fri-Mon)
// with commas between them; without DAYS the window opens every day. 24:00 may end a
// window. Windows of no length are refused: nobody can tell whether never or always
// was meant.
func ParseWindow(s string) (Window, error) {
	var w Window
	fields := strings.Fields(s)
	switch len(fields) {
	case 1:
		for i := range w.days {
			w.days[i] = true
		}
	case 2:
		if err := w.parseDays(fields[0]); err != nil {
			return Window{}, fmt.Errorf("window %.80q: %w", s, err)
		}
	default:
		return Window{}, fmt.Errorf(`window %.80q: want "[DAYS ]HH:MM-HH:MM", such as "Mon-Fri 02:00-05:00"`, s)
	}
	from, to, ok := strings.Cut(fields[len(fields)-1], "-")
	if !ok {
		return Window{}, fmt.Errorf(`window %.80q: want two times with "-" between them`, s)
	}
	var err error
	if w.begin, err = parseMinute(from); err != nil {
		return Window{}, fmt.Errorf("window %.80q: %w", s, err)
	}
	if w.end, err = parseMinute(to); err != nil {
		return Window{}, fmt.Errorf("window %.80q: %w", s, err)
	}
	if w.begin == minutesPerDay {
		return Window{}, fmt.Errorf("window %.80q: begins at 24:00, want 00:00 of the next day", s)
	}
	if w.begin == w.end {
		return Window{}, fmt.Errorf("window %.80q: begins and ends at the same time; write 00:00-24:00 for a whole day", s)
	}
	return w, nil
}

// ParseWindows reads several.
func ParseWindows(list []string) (Windows, error) {
	var ws Windows
	for _, s := range list {
		w, err := ParseWindow(s)
		if err != nil {
			return nil, err
		}
		ws = append(ws, w)
	}
	return ws, nil
}

func (w *Window) parseDays(s string) error {
	for item := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(item, "-")
		if !isRange {
			to = from
		}
		a, b := weekday(from), weekday(to)
		if a < 0 || b < 0 {
			return fmt.Errorf("days %.40q: want Mon, Tue, Wed, Thu, Fri, Sat or Sun, or a range such as Mon-Fri", item)
		}
		for d := a; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == b {
				break
			}
		}
	}
	return nil
}

func weekday(s string) int {
	for i, n := range weekdays {
		if strings.EqualFold(n, s) {
			return i
		}
	}
	return -1
}

func parseMinute(s string) (int, error) {
	if len(s) == 5 && s[2] == ':' && isDigit(s[0]) && isDigit(s[1]) && isDigit(s[3]) && isDigit(s[4]) {
		h, m := int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
		if h < 24 && m < 60 || h == 24 && m == 0 {
			return h*60 + m, nil
		}
	}
	return 0, fmt.Errorf("time %.20q: want HH:MM from 00:00 to 24:00", s)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// String returns the window in the form that ParseWindow reads.
func (w Window) String() string {
	span := fmt.Sprintf("%02d:%02d-%02d:%02d", w.begin/60, w.begin%60, w.end/60, w.end%60)
	var days []string
	for d := 1; d <= 7; d++ { // weeks begin on Monday
		if w.days[d%7] {
			days = append(days, weekdays[d%7])
		}
	}
	if len(days) == 7 {
		return span
	}
	return strings.Join(days, ",") + " " + span
}

// span returns when the window that begins on the date of noon opens and closes.
func (w Window) span(year int, month time.Month, day int, loc *time.Location) (begin, end time.Time) {
	begin = instant(year, month, day, w.begin, loc)
	endDay := day
	if w.end <= w.begin {
		endDay++
	}
	end = instant(year, month, endDay, w.end, loc)
	if !end.After(begin) {
		// All of it fell into the hour that summer time leaves out: it opens when
		// that hour is over, for as long as it would have been open.
		end = begin.Add(time.Duration(w.end-w.begin) * time.Minute)
	}
	return begin, end
}

// instant returns the first moment at which a clock in loc shows that date and minute
// or, if the clock skips it, the moment of the skip. (time.Date leaves open which of
// two moments it picks.)
func instant(year int, month time.Month, day, minute int, loc *time.Location) time.Time {
	naive := time.Date(year, month, day, 0, minute, 0, 0, time.UTC)
	_, before := naive.Add(-26 * time.Hour).In(loc).Zone()
	_, after := naive.Add(26 * time.Hour).In(loc).Zone()
	first := naive.Add(-time.Duration(before) * time.Second).In(loc)
	second := naive.Add(-time.Duration(after) * time.Second).In(loc)
	shows := func(t time.Time) bool {
		_, off := t.Zone()
		return t.Add(time.Duration(off) * time.Second).Equal(naive)
	}
	switch {
	case shows(first) && (!shows(second) || first.Before(second)):
		return first
	case shows(second):
		return second
	}
	if start, _ := first.ZoneBounds(); !start.IsZero() {
		return start
	}
	return first
}

// Next returns the first moment at or after now at which an install may begin: now
// itself inside a window.
func (ws Windows) Next(now time.Time, loc *time.Location) time.Time {
	if len(ws) == 0 {
		return now
	}
	var best time.Time
	year, month, day := now.In(loc).Date()
	for d := -2; d <= 8; d++ {
		// Noon exists on every date that exists at all.
		date := time.Date(year, month, day+d, 12, 0, 0, 0, time.UTC)
		for _, w := range ws {
			if !w.days[date.Weekday()] {
				continue
			}
			y, m, dd := date.Date()
			begin, end := w.span(y, m, dd, loc)
			if !end.After(now) {
				continue
			}
			if begin.Before(now) {
				begin = now
			}
			if best.IsZero() || begin.Before(best) {
				best = begin
			}
		}
	}
	return best
}

// Open reports whether an install may begin at now.
func (ws Windows) Open(now time.Time, loc *time.Location) bool {
	return !ws.Next(now, loc).After(now)
}
