package shim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/network"
	"github.com/twinkeel/twinkeel/workloads/oci"
	"github.com/twinkeel/twinkeel/workloads/spec"
	"github.com/twinkeel/twinkeel/workloads/vm"
)

// DefaultProgram is where the package of the agent puts the shim's program.
const DefaultProgram = "/usr/lib/twinkeel/twinkeel-shim"

// Program is the shim's program: the one beside the agent's, such as where both were
// built, or else that of the package.
func Program(agent string) string {
	beside := filepath.Join(filepath.Dir(agent), filepath.Base(DefaultProgram))
	if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
		return beside
	}
	return DefaultProgram
}

// Order is what a shim is to run.
type Order struct {
	ID string `json:"id"` // of the container, new for every order
	// Instance names the control group that those of all applications are in; "", as agents
	// wrote it that knew of one only: "twinkeel".
	Instance string `json:"instance,omitempty"`

	Unit    workloads.Unit `json:"unit"`
	FirstID uint32         `json:"firstID"` // see spec.Input
	Runtime oci.Runtime    `json:"runtime"`
	Machine *vm.Host       `json:"machine,omitempty"` // for level vm
	// Link leads into the application's private network; nil: there is none.
	Link    *network.Link          `json:"link,omitempty"`
	Devices map[string]spec.Device `json:"devices,omitempty"`
	Log     string                 `json:"log"` // file of its output; a second one is Log + ".1"
	// TrialLog, if set, gets the output as well: of this version alone, where Log is shared
	// with the version that runs beside it.
	TrialLog string `json:"trialLog,omitempty"`
}

// Names of files in a shim's directory.
const (
	orderFile  = "order.json"
	lockFile   = "lock"
	socketFile = "shim.sock"
	outputPipe = "output"
)

// maxOrder is above what a manifest of the largest size becomes.
const maxOrder = 4 * release.MaxAppManifestSize

// WriteOrder puts an order into a shim's directory.
func WriteOrder(dir string, o Order) error {
	b, err := json.Marshal(&o)
	if err != nil {
		return fmt.Errorf("write order of %s: %w", o.ID, err)
	}
	// The directory does not outlive a reboot: no sync.
	part := filepath.Join(dir, orderFile+".part")
	if err := os.WriteFile(part, b, 0o600); err != nil {
		return fmt.Errorf("write order of %s: %w", o.ID, err)
	}
	return os.Rename(part, filepath.Join(dir, orderFile))
}

// ReadOrder reads the order of a shim's directory.
func ReadOrder(dir string) (*Order, error) {
	f, err := os.Open(filepath.Join(dir, orderFile))
	if err != nil {
		return nil, fmt.Errorf("read order: %w", err)
	}
	defer func() { _ = f.Close() }()
	var o Order
	if err := json.NewDecoder(io.LimitReader(f, maxOrder)).Decode(&o); err != nil {
		return nil, fmt.Errorf("read order in %s: %w", dir, err)
	}
	if o.ID == "" || o.Unit.Manifest == nil {
		return nil, fmt.Errorf("read order in %s: got neither id nor manifest", dir)
	}
	return &o, nil
}

// group is the application's control group, ownGroup the shim's.
func (o *Order) group() string    { return "/" + cmp.Or(o.Instance, "twinkeel") + "/" + o.ID }
func (o *Order) ownGroup() string { return o.group() + ".shim" }

// Status is what a shim says of its application.
type Status struct {
	State workloads.State `json:"state"`
	PID   int             `json:"pid,omitempty"` // of its first process, on the host
}
