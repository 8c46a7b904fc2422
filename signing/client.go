package signing

import (
	"context"
	"errors"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
)

// Source delivers the files of a repository. Nothing it returns is believed.
type Source interface {
	// Fetch returns the whole file at path, relative to the repository:
	// "metadata/2.root.json", "targets/os/stable/x/<sha256>.1.json". A file that is not
	// there is fs.ErrNotExist; one that the server refuses to show may be
	// fs.ErrPermission. More than limit bytes are an error. Fetch must return when ctx
	// is done.
	Fetch(ctx context.Context, path string, limit int64) ([]byte, error)
}

// Config is what a Client is made of.
type Config struct {
	// Dir holds the state. The caller holds its lock, or that of a directory above.
	Dir durable.Dir
	// Factory is the root metadata that the host was made with. It may be nil only if
	// Dir already holds a root.
	Factory []byte
	// Now is the host's clock.
	Now func() time.Time
	// MinTime is a time that has certainly passed, such as the build time of the image.
	MinTime time.Time
	// FetchTimeout bounds one Fetch; zero means DefaultFetchTimeout.
	FetchTimeout time.Duration
	// Interop accepts what the TUF specification allows beyond twinkeel's own profile:
	// RSA keys, any role name, metadata listed without length and digest. It exists to
	// be judged by outside conformance suites; a host leaves it false.
	Interop bool
}

// DefaultFetchTimeout bounds one Fetch of at most a few MiB.
const DefaultFetchTimeout = 2 * time.Minute

// Client is the trust of one host in one repository. Its methods must not be called
// concurrently, except State.
type Client struct {
	cfg Config
}

// Open reads the state in cfg.Dir and writes nothing. It fails if there is no usable
// root; floors that cannot be read are reported by Refresh and Target.
func Open(cfg Config) (*Client, error) { return nil, errors.New("not built yet") }

// Refresh follows the TUF client workflow: newer roots one by one, then timestamp,
// snapshot and top-level targets. Each file is committed as soon as it verifies, so a
// later failure loses nothing. An error is an *Error, or one of the directory.
func (c *Client) Refresh(ctx context.Context, src Source) error { return nil }

// Target returns the verified content of the target called name, at most limit bytes.
// It works on what is committed, with or without a Refresh before, as long as every role
// on the way is unexpired now; roles and content that are not cached are asked of src,
// which may be nil. A target that no role lists is fs.ErrNotExist.
func (c *Client) Target(ctx context.Context, src Source, name string, limit int64) ([]byte, error) {
	return nil, nil
}

// Cached is Target without a Source and without regard to expiry: what the host last
// believed. It serves explanations, and must not lead to an installation.
func (c *Client) Cached(name string, limit int64) ([]byte, error) { return nil, nil }

// Names returns, sorted, the names of the targets that the role lists and may list. The
// role is "targets" or one that the top-level targets role delegates to.
func (c *Client) Names(ctx context.Context, src Source, role string) ([]string, error) {
	return nil, nil
}

// Expires returns the earliest expiry of the committed root, timestamp, snapshot and
// targets and of the delegated roles used since; zero if the metadata is not complete.
func (c *Client) Expires() time.Time { return time.Time{} }

// ClockBehind reports whether the clock is behind what signed data proves.
func (c *Client) ClockBehind() bool { return false }

// Reset forgets all state, floors included: the next Refresh starts from the factory
// root. It is an administrator's decision, for it gives up rollback protection.
func (c *Client) Reset() error { return nil }

// State returns a summary for people. It may be called at any time.
func (c *Client) State() State { return State{} }

// State summarises what is committed.
type State struct {
	Roles     []RoleState `json:"roles"` // root, timestamp, snapshot, targets, then delegated ones used
	RootFloor int64       `json:"rootFloor"`
	TimeFloor time.Time   `json:"timeFloor"` // proven to have passed
	Problem   string      `json:"problem,omitempty"`
}

// RoleState is one committed role.
type RoleState struct {
	Name    string    `json:"name"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
}
