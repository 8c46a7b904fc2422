package agent

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/twinkeel/twinkeel/agent/health"
	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/partitions"
)

// Net is all that the agent asks of the world outside; the fetcher implements it, in
// a process without privileges. Nothing it returns is trusted.
type Net interface {
	// Get returns the bytes of path, relative to the repository, from offset on: at most
	// limit of them, fewer only where the file ends. A file that is not there is
	// fs.ErrNotExist.
	Get(ctx context.Context, path string, offset, limit int64) ([]byte, error)
	// Decode turns a segment's payload, whose digest was checked, into a plan for
	// deltas.Execute. base is the old image, or nil.
	Decode(ctx context.Context, payload []byte, s deltas.Segment, base io.ReaderAt) (io.ReadCloser, error)
	// Probe makes one http or tcp health check from where there is a network.
	Probe(ctx context.Context, p Probe) error
}

// ErrUnavailable is in the chain of an error of Net that says nothing about the
// content: no connection, a server fault, a time-out.
var ErrUnavailable = errors.New("unavailable")

// Probe is one health check. Its type lives in agent/health, which does not import this
// package: agent uses health's Judge.
type Probe = health.Probe

// Health carries out one probe once; nil means healthy.
type Health interface {
	Check(ctx context.Context, p Probe) error
}

// Slots opens the images of the two slots.
type Slots interface {
	// OpenRead opens an image for reading. It reads past the page cache.
	OpenRead(partitions.Slot, string) (partitions.OpenDevice, error)
	// OpenWrite opens an image of a slot that does not run, exclusively.
	OpenWrite(partitions.Slot, string) (partitions.OpenDevice, error)
}

// Clock is time, which the simulator owns in tests.
type Clock interface {
	Now() time.Time
	// Sleep returns after d, or earlier with ctx's error.
	Sleep(ctx context.Context, d time.Duration) error
}
