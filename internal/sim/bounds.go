package sim

import (
	"slices"
	"strconv"
	"strings"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/partitions"
)

// The limits of law 10.
const (
	maxStateFiles = 33      // of the agent: ten, and three of each deployment that is pointed to
	maxTrustFiles = 12 + 64 // seven roles, two floors, evidence; and the cache of targets
	maxAppsFiles  = 40      // of applications: six, and the manifests that deployments name, twice
	moreWithApps  = 24      // files of the agent: a transaction of applications points to three deployments, and each of some faults in a row leaves one
	maxStateBytes = 1 << 20 // of all
	maxStrays     = 5       // deployments at rest that nothing points to: one of a cut, and the two that each of both pointers named before it was lost
)

// bounded is law 10.
func (m *Machine) bounded() {
	files, size := len(m.State.view), 0
	for _, b := range m.State.view {
		size += len(b)
	}
	apps, trust := 0, 0
	for name, d := range m.State.subs {
		if name == "apps" {
			apps += d.count(&size)
		} else {
			trust += d.count(&size)
		}
	}
	most := maxStateFiles
	if m.Apps != nil {
		most += moreWithApps
	}
	if files > most || trust > maxTrustFiles || apps > maxAppsFiles || size > maxStateBytes {
		m.broke(10, "%d files of state, %d of trust, %d of applications, %d bytes; want at most %d, %d, %d, %d", files, trust, apps, size, most, maxTrustFiles, maxAppsFiles, maxStateBytes)
	}
}

// Tidy is law 10 for a machine at rest: what nothing points to any more was removed. A
// power cut may have left one deployment that was never used; the next transaction drops it.
func (m *Machine) Tidy() {
	var pointed []uint64
	for _, slot := range partitions.Slots {
		if p, whole := record[agent.Pointer](m, m.State.view["slot-"+slot.String()+".json"]); whole {
			pointed = append(pointed, p.Current, p.Previous)
		}
	}
	strays := 0
	for _, name := range m.State.Names() {
		digits, is := strings.CutPrefix(name, "deployment-")
		digits, whole := strings.CutSuffix(digits, ".json")
		if n, err := strconv.ParseUint(digits, 10, 64); is && whole && err == nil && !slices.Contains(pointed, n) {
			strays++
		}
	}
	most := maxStrays
	if m.Apps != nil {
		most += moreWithApps / 3 // a transaction of theirs leaves as many, or a pointer that was rebuilt
	}
	if strays > most {
		m.broke(10, "%d deployments are on file that nothing points to, want at most %d", strays, most)
	}
}

// count returns the number of files in d and below, and adds their sizes.
func (d *Dir) count(size *int) int {
	n := len(d.view)
	for _, b := range d.view {
		*size += len(b)
	}
	for _, s := range d.subs {
		n += s.count(size)
	}
	return n
}
