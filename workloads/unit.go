package workloads

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/twinkeel/twinkeel/release"
)

// ErrMissing is in the chain of an error about something that the host lacks, such as a
// runtime for an isolation level or a device, or that somebody else on it has, such as a
// port. The unit is refused; nothing is lowered.
var ErrMissing = errors.New("the host lacks it")

// ErrNoRoom is in the chain of an error about an image or data that does not fit.
var ErrNoRoom = errors.New("no room")

// Generation is one state of an application's versioned data.
type Generation struct {
	Name  string
	Made  time.Time
	Bytes int64 // 0: not known
}

// Origin names a generation that is to be copied.
type Origin struct{ App, Generation string }

// Unit is one application as it is to run.
type Unit struct {
	Manifest *release.AppManifest
	Image    string // file with the EROFS image
	// Verified is the image's file as it was when all of it was found to be what the
	// manifest names; zero: nobody has looked, and whoever mounts it has to.
	Verified Identity
	Data     map[string]string // directory of each volume by its name
	// Generation names the data that it runs on; for people and for Status.
	Generation string
	// Grants are the permissions of the manifest that the host grants. What the manifest
	// asks for and is not here, the unit does not get.
	Grants []release.AppPermission
	// Rehearsal says that it is only tried, on copies of its data, and dropped again: it
	// reaches nobody, whatever it is granted.
	Rehearsal bool
}

// Identity tells a file from any other that it could be, or could become, within one
// boot. Two that are equal and not zero are of one file, to which nothing was written
// between the moments when they were taken.
type Identity struct {
	Boot    string `json:"boot,omitempty"` // the kernel's id of it
	Device  uint64 `json:"device,omitempty"`
	Inode   uint64 `json:"inode,omitempty"`
	Size    int64  `json:"size,omitempty"`
	Changed int64  `json:"changed,omitempty"` // the inode, in nanoseconds since 1970: nobody can set it
}

// Name is what the unit is called on this host.
func (u *Unit) Name() string { return u.Manifest.Name }

// State is what a unit does now.
type State struct {
	Running    bool            `json:"running"`
	Version    release.Version `json:"version"` // of what runs or ran last
	App        release.Digest  `json:"app"`     // release.AppManifest.Digest of it
	Generation string          `json:"generation,omitempty"`
	Since      time.Time       `json:"since,omitzero"`
	Restarts   int             `json:"restarts,omitempty"` // since Start, after it ended by itself
	Exit       string          `json:"exit,omitempty"`     // how it ended last, for people
	Looping    bool            `json:"looping,omitempty"`  // it ends again and again: no longer restarted for now
	// Quota says how the quotas of its volumes hold: "enforced" by the file system, or
	// "watched", so that one that takes more is stopped soon after; empty: it has none.
	Quota string `json:"quota,omitempty"`
}

// Runner starts and stops units.
type Runner interface {
	// Start returns when the unit's process runs; it then lives on without the caller. A
	// unit of the same name that runs is an error.
	Start(ctx context.Context, u Unit) error
	// Stop ends the unit called name and returns when nothing of it runs, has a file of
	// its data open or is mounted any more. A unit that does not run is no error.
	Stop(ctx context.Context, name string) error
}

// Prober says how units are.
type Prober interface {
	// Status is the zero State for a name that was never started.
	Status(ctx context.Context, name string) (State, error)
	// Healthy makes the manifest's check once, from where the unit is; nil is healthy.
	Healthy(ctx context.Context, name string) error
}

// Switcher brings up a new version beside the one that runs, for strategy parallel and
// socket. A Runner that does not implement it switches by stop and start.
type Switcher interface {
	// Try starts the unit where no client reaches it; HealthyTry makes its check there.
	Try(ctx context.Context, u Unit) error
	HealthyTry(ctx context.Context, name string) error
	// Tried is how what is tried is; the zero State if nothing is.
	Tried(ctx context.Context, name string) (State, error)
	// TriedLogs copies the newest lines of the trial's own output to w.
	TriedLogs(ctx context.Context, name string, lines int, w io.Writer) error
	// Switch leads all clients to what was tried, in one step, and ends what ran before.
	Switch(ctx context.Context, name string) error
	// Drop ends what was tried. Nothing tried is no error.
	Drop(ctx context.Context, name string) error
}

// LogTime is the form of the time, of UTC, that stands before each line of a unit's output.
const LogTime = "2006-01-02T15:04:05.000Z"

// Console looks inside a unit.
type Console interface {
	// Logs copies the newest lines of the unit's output that are kept to w; with follow it
	// goes on until ctx ends.
	Logs(ctx context.Context, name string, lines int, follow bool, w io.Writer) error
	// Exec runs a command in the unit, confined as it is, and returns its exit code.
	Exec(ctx context.Context, name string, argv []string, in io.Reader, out, errs io.Writer) (int, error)
}
