package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/release"
)

// A verdict says what failed first, and not only what came of it.
func TestAVerdictOverAnAppSaysWhatFailedFirst(t *testing.T) {
	gone, refused := errors.New("its shim is gone"), errors.New("connection refused")
	for _, c := range []struct {
		name   string
		checks []error
		want   string // "": no verdict
	}{
		{"never good", []error{refused, refused, gone}, "its shim is gone"},
		{"one failure", []error{nil, gone}, ""},
		{"the same again", []error{nil, refused, refused}, "connection refused"},
		{"gone, then not there yet", []error{nil, gone, refused}, "its shim is gone; then connection refused"},
		{"good in between", []error{nil, gone, nil, refused, refused}, "connection refused"},
	} {
		p := patient{rules: release.AppHealth{Failures: 2, Start: release.Duration(2 * time.Second), Probation: release.Duration(time.Minute)}}
		got := ""
		start := time.Unix(0, 0)
		for i, err := range c.checks {
			if p.observe(start.Add(time.Duration(i)*time.Second), start, err) == VerdictUnhealthy {
				got = p.why()
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
