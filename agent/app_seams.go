package agent

import (
	"context"
	"time"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// Apps is what an agent needs to run applications.
type Apps struct {
	Wanted []AppWish
	Allow  []string // permissions that any app gets, as "name" or "name=value"
	Deny   []string // permissions that no app gets, whoever grants them
	Arch   string   // of this machine, as in a manifest
	// Isolation is the level below which nothing is run; "": any.
	Isolation string
	Images    AppImages
	Data      AppData
	Runner    workloads.Runner
	Prober    workloads.Prober
	// Doctor, if set, says what an operator should know of how apps are kept apart here.
	Doctor func(context.Context) []string
	// Ready, if set, says why this host cannot run what a manifest describes, whatever is in
	// use meanwhile, with workloads.ErrMissing in the chain if it lacks a part; and what an
	// operator should know of how it would run. It changes nothing.
	Ready func(context.Context, *release.AppManifest) (notes []string, err error)
	// Free, if set, says what a manifest needs of this host as it is now and would not get, such
	// as a port that another app has: workloads.ErrMissing is in the chain. What its own unit
	// and those called leaving have is free by then. It changes nothing.
	Free func(ctx context.Context, m *release.AppManifest, leaving []string) error
	// Keep is how many parked generations of an app's data are kept; 0: DefaultKeep.
	Keep int
}

// DefaultKeep is how many parked generations of an app's data are kept.
const DefaultKeep = 4

// AppWish is an application that this host is to run, or that a release of the OS may
// name.
type AppWish struct {
	Name      string
	Publisher string          // whose role signs it
	Version   release.Version // this one and no other; zero: the newest
	Hold      bool            // it is not updated by itself
	// Bundled says that only releases of the OS install it.
	Bundled bool
	Allow   []string // permissions that it gets
	Deny    []string
}

// AppImages keeps the images of applications, each with its hash tree behind it, by
// their verity roots.
type AppImages interface {
	// OpenRead opens an image that was sealed; fs.ErrNotExist if there is none.
	OpenRead(root release.Digest) (partitions.OpenDevice, error)
	// OpenWrite opens an image that is not sealed, of size bytes, and makes it if need be.
	// Nothing is written where there is no room for all of it: workloads.ErrNoRoom.
	OpenWrite(root release.Digest, size int64) (partitions.OpenDevice, error)
	// Seal durably makes an image one that may run.
	Seal(root release.Digest) error
	// Path is the file of an image that was sealed.
	Path(root release.Digest) string
	// Identity is that of this file, or zero if it cannot be told.
	Identity(root release.Digest) workloads.Identity
	// List returns all that there is, sealed or not.
	List() ([]release.Digest, error)
	// Remove drops an image; one that is not there is no error.
	Remove(root release.Digest) error
}

// AppData keeps what applications write. Each generation of an app's data has a name;
// shared, identity and cache volumes stand beside the generations.
type AppData interface {
	// Generations lists what there is of an app, the oldest first.
	Generations(app string) ([]workloads.Generation, error)
	// Apps lists the apps of which there is anything.
	Apps() ([]string, error)
	// CheckClone reports why Clone of all that is named, one after the other, would not come
	// to its end: for lack of room, or within a time. Nothing is changed.
	CheckClone(ctx context.Context, within time.Duration, from ...workloads.Origin) error
	// Clone durably makes generation to a copy of from, or an empty one if from is "".
	// A generation that is there already is left as it is; a copy that was interrupted is
	// begun anew. Nobody writes to from meanwhile.
	Clone(ctx context.Context, app, from, to string) error
	// Volumes returns the directory of each volume of a generation that is there, and
	// makes those that are missing, for the user of the manifest.
	Volumes(app, generation string, m *release.AppManifest) (map[string]string, error)
	// Remove drops a generation; one that is not there is no error.
	Remove(app, generation string) error
}
