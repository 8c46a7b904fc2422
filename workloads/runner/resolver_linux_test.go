package runner_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
)

// An application that may talk to others looks names up where the host does, and does not
// share the host's file: it would notice when others look one up.
func TestTheResolverIsACopyOfTheHosts(t *testing.T) {
	h := newHost(t, "")
	want, err := os.ReadFile("/run/systemd/resolve/resolv.conf")
	if err != nil {
		want, err = os.ReadFile("/etc/resolv.conf")
	}
	needs.That(t, err == nil, "/etc/resolv.conf")
	file, img := h.image("resolver", func(root string) {
		if err := os.WriteFile(filepath.Join(root, "etc/resolv.conf"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	u := h.unit("1.0.0", file, img, "/bin/actor", "sleep")
	u.Manifest.Network.Mode = "private"
	h.start(u)
	out, code := h.exec("/bin/actor", "read", "/etc/resolv.conf")
	if code != 0 {
		t.Errorf("got code %d", code)
	}
	contains(t, out, string(want))
	own, err := filepath.Glob(filepath.Join(h.dir, "run/web.*/resolv.conf"))
	if err != nil || len(own) != 1 {
		t.Errorf("got copies %v, %v, want one", own, err)
	}
}
