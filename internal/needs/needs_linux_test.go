package needs

import (
	"fmt"
	"runtime"
	"testing"
)

// ended is a test that writes down how it ended.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Helper() {}

func (e *ended) Fatalf(format string, args ...any) { e.end("fails: " + fmt.Sprintf(format, args...)) }

func (e *ended) Skipf(format string, args ...any) {
	e.end("is skipped: " + fmt.Sprintf(format, args...))
}

func (e *ended) end(how string) {
	e.how = how
	runtime.Goexit()
}

// end runs a test and returns how it ended.
func end(test func(testing.TB)) string {
	e := &ended{how: "runs"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(e)
	}()
	<-done
	return e.how
}

func TestWhatIsAbsentIsSkippedLoudlyAndFailsInCI(t *testing.T) {
	for _, c := range []struct{ ci, tool, want string }{
		{"", "sh", "runs"}, {"true", "sh", "runs"},
		{"", "no-such-tool", "is skipped: needs no-such-tool (see .ci/install)"}, {"true", "no-such-tool", "fails: needs no-such-tool (see .ci/install)"},
	} {
		t.Setenv("CI", c.ci)
		if got := end(func(t testing.TB) { Tools(t, "sh", c.tool) }); got != c.want {
			t.Errorf("CI=%q, %s: got %q, want %q", c.ci, c.tool, got, c.want)
		}
	}
}

func TestOnlyAnOlderKernelIsBefore(t *testing.T) {
	for release, want := range map[string]bool{
		"6.1.0-28-amd64": true, "5.15.0": true, "6.6": true, "6.7.0": false, "6.18.44-fc": false, "7.0": false, "10.2": false, "": false, "x": false,
	} {
		if got := before(release, 6, 7); got != want {
			t.Errorf("%q: got %v, want %v", release, got, want)
		}
	}
}
