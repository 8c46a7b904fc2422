package runner_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/workloads/quota"
)

// subvolumes puts the data of applications on a btrfs with simple quotas.
func (h *host) subvolumes() {
	h.t.Helper()
	dir := filepath.Join(h.dir, "state", "data")
	needs.Mounted(h.t, "btrfs", "256M", filepath.Join(h.dir, "disk"), dir)
	needs.SimpleQuotas(h.t, dir)
}

func TestAnApplicationOverAQuotaOfTheFileSystemIsToldSoAndRunsOn(t *testing.T) {
	h := newHost(t, "")
	h.subvolumes()
	for _, name := range []string{"web", "other"} {
		dir := filepath.Join(h.dir, "state", "data", name)
		if err := errors.Join(quota.Mkdir(dir, 0o755), os.Chown(dir, 1000, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	other := h.actor("sleep")
	other.Manifest.Name, other.Manifest.Data[0].Quota = "other", 32<<20
	other.Data = map[string]string{"db": filepath.Join(h.dir, "state", "data", "other")}
	u := h.actor("fill", "/data")
	u.Manifest.Data[0].Quota = 4 << 20
	h.start(other)
	h.start(u)
	h.eventually("the end of room", func() bool { return strings.Contains(h.said(), "disk quota exceeded") })
	if st := h.status(); !st.Running || st.Quota != "enforced" || st.Restarts != 0 {
		t.Errorf("got %+v, want it running, its quota enforced", st)
	}
	st, err := h.Status(t.Context(), "other")
	if err != nil || !st.Running || st.Restarts != 0 || st.Quota != "enforced" {
		t.Errorf("the other: got %+v, %v, want it untouched", st, err)
	}
	if err := h.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	h.start(u) // it is full, and starts all the same
}
