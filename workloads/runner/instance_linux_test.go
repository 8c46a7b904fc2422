package runner_test

import (
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

func TestTwoAgentsOnOneMachineDoNotTouchEachOthersApplications(t *testing.T) {
	one, two := newHost(t, ""), newHost(t, "")
	two.options.Instance, two.options.Bridge, two.options.Network = instance+"-two", "tktest1", netip.MustParsePrefix("10.214.0.0/24")
	two.open()
	// The same name, the same number of the start, the same range of ids.
	first, second := one.server("1", "stop-start"), two.server("2", "stop-start")
	second.Manifest.Network.Publish[0].Host = 8083
	one.start(first)
	two.start(second)
	two.eventually("health", func() bool { return two.Healthy(t.Context(), "web") == nil })
	for _, c := range []struct{ at, want string }{{"127.0.0.1:8081", "1"}, {"127.0.0.1:8083", "2"}} {
		if got, err := get(c.at); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %s", c.at, got, err, c.want)
		}
	}
	if err := two.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if got, err := get("127.0.0.1:8081"); err != nil || got != "1" {
		t.Errorf("after the end of the other: got %q, %v, want 1", got, err)
	}
	if st := one.status(); !st.Running || st.Restarts != 0 {
		t.Errorf("got %+v, want it untouched", st)
	}
}

// get asks once.
func get(address string) (string, error) {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + address + "/")
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}
