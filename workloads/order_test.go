package workloads_test

import (
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/workloads"
)

// No set with a circle is chosen. One that runs all the same, since before hosts asked, has
// to come up after a boot.
func TestACircleThatRunsAlreadyIsBroken(t *testing.T) {
	for _, c := range []struct {
		after  map[string][]string
		system map[string]bool
		want   string
	}{
		{map[string][]string{"a": {"b"}, "b": {"a"}}, nil, "c a b"},
		{map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"a"}}, nil, "a c b"},
		{map[string][]string{"a": {"b"}, "b": {"a"}}, map[string]bool{"b": true}, "c b a"},
		{map[string][]string{"b": {"b"}}, nil, "a c b"},
	} {
		if got := strings.Join(workloads.StartOrder([]string{"a", "b", "c"}, c.after, c.system), " "); got != c.want {
			t.Errorf("%v: got %q, want %q", c.after, got, c.want)
		}
	}
}
