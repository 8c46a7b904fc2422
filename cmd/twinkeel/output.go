package main

// Rules of output.
//
// The answer goes to standard output, everything else (progress, errors, warnings) to
// standard error. Lines for people begin with a word that can be searched for, have no
// full stop, and keep their columns. An error is "twinkeel: ", what was wanted, and the
// reason code in brackets where there is one.
//
// Whatever came from outside — a server's text, a reason, a probe's output — has its
// control characters escaped before it reaches a terminal; so has everything else,
// because nobody can tell later where a string came from.
//
// --json prints one JSON value, as indented UTF-8, and nothing else to standard output.
// JSON has its own escapes for control characters.

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// printer writes lines for people.
type printer struct {
	w io.Writer
}

// line writes one line; what is in the arguments cannot make it two.
func (p *printer) line(format string, args ...any) {
	fmt.Fprintln(p.w, clean(fmt.Sprintf(format, args...)))
}

// lines writes text that has several lines, each after prefix.
func (p *printer) lines(prefix, text string) {
	for l := range strings.Lines(text) {
		p.line("%s%s", prefix, strings.TrimRight(l, "\n"))
	}
}

// table writes rows in columns.
func (p *printer) table(rows [][]string) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		for i, cell := range r {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, clean(cell))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
	for l := range strings.Lines(b.String()) {
		fmt.Fprintln(p.w, strings.TrimRight(l, " \n"))
	}
}

// json writes one JSON value.
func (p *printer) json(v any) error {
	e := json.NewEncoder(p.w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// clean escapes what could move a terminal's cursor, change its state, or reorder what
// is read: control characters, bidirectional overrides, and what is not UTF-8.
func clean(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// bytesText is a number of bytes in the unit that people would use.
func bytesText(n int64) string {
	f, unit := float64(n), ""
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f < 1024 {
			break
		}
		f, unit = f/1024, u
	}
	if unit == "" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// timeText is a time in the host's zone.
func timeText(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }
