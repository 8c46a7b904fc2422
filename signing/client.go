package signing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
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
	// Verdicts may be shared with other clients; nil means that this one has its own.
	Verdicts *Verdicts
	// Interop accepts what the TUF specification allows beyond twinkeel's own profile:
	// RSA keys, any role name, metadata listed without length and digest. It exists to
	// be judged by outside conformance suites; a host leaves it false.
	Interop bool
}

// DefaultFetchTimeout bounds one Fetch of at most a few MiB.
const DefaultFetchTimeout = 2 * time.Minute

// clockTolerance is how far behind proven time a clock may be before ClockBehind says
// so: the signer's clock may be a little ahead.
const clockTolerance = 5 * time.Minute

// Client is the trust of one host in one repository. Its methods must not be called
// concurrently, except State.
type Client struct {
	cfg            Config
	factoryVersion int64 // of the factory root, 0 if that is not usable
	floors         *floors
	// session is the committed metadata, loaded and verified; nil if it has to be
	// loaded again, or could not be.
	session *session
	// memo holds verified targets roles by edge, so that a poll that finds nothing new
	// parses nothing large again.
	memo map[string]*role
	// logWarning is LogState.Warning; evidence is what evidenceFile holds.
	logWarning string
	evidence   []evidence
	told       told // by publish

	mu    sync.Mutex // guards state
	state State
}

// Open reads the state in cfg.Dir and writes nothing. It fails if there is no usable
// root; floors that cannot be read are reported by Refresh and Target.
func Open(cfg Config) (*Client, error) {
	if cfg.Dir == nil || cfg.Now == nil {
		return nil, errors.New("open trust: no directory or no clock given")
	}
	if cfg.FetchTimeout <= 0 {
		cfg.FetchTimeout = DefaultFetchTimeout
	}
	if cfg.Verdicts == nil {
		cfg.Verdicts = &Verdicts{}
	}
	c := &Client{cfg: cfg, memo: map[string]*role{}}
	names, err := cfg.Dir.List()
	if err != nil {
		return nil, fmt.Errorf("open trust: %w", err)
	}
	c.floors = openFloors(cfg.Dir, hasRoleFile(names), cfg.Verdicts)
	c.evidence = c.readEvidence()
	c.readFactory()
	s, err := c.newSession()
	if err != nil {
		return nil, fmt.Errorf("open trust: %w", err)
	}
	if c.usable() != nil {
		c.publish(nil)
		return c, nil
	}
	// Why the committed metadata is not complete, if it is not, is told by whoever
	// needs it.
	_ = c.complete(s)
	return c, nil
}

// Refresh follows the TUF client workflow: newer roots one by one, then timestamp,
// snapshot and top-level targets. Each file is committed as soon as it verifies, so a
// later failure loses nothing. An error is an *Error, or one of the directory.
func (c *Client) Refresh(ctx context.Context, src Source) error {
	if err := c.usable(); err != nil {
		return err
	}
	c.session = nil
	s, err := c.refresh(ctx, src)
	if err != nil {
		_, _ = c.committed() // what was committed before the error stays in use
		return err
	}
	c.session = s
	c.publish(s)
	return nil
}

// Target returns the verified content of the target called name, at most limit bytes.
// It works on what is committed, with or without a Refresh before, as long as every role
// on the way is unexpired now; roles and content that are not cached are asked of src,
// which may be nil. A target that no role lists is fs.ErrNotExist. If the top-level
// targets role demands it, a release must stand in the release log as well.
func (c *Client) Target(ctx context.Context, src Source, name string, limit int64) ([]byte, error) {
	if err := c.checkTargetName(name); err != nil {
		return nil, err
	}
	s, err := c.committed()
	if err != nil {
		return nil, err
	}
	defer c.publish(s)
	f, err := s.find(ctx, src, name)
	if err != nil {
		return nil, err
	}
	if err := c.checkLogged(ctx, src, s, name, f); err != nil {
		return nil, err
	}
	return c.content(ctx, src, s, name, f, limit)
}

// Cached is Target without a Source and without regard to expiry: what the host last
// believed. It serves explanations, and must not lead to an installation.
func (c *Client) Cached(name string, limit int64) ([]byte, error) {
	if err := c.checkTargetName(name); err != nil {
		return nil, err
	}
	s, err := c.recall()
	if err != nil {
		return nil, err
	}
	f, err := s.find(context.Background(), nil, name)
	if err != nil {
		return nil, err
	}
	return c.content(context.Background(), nil, s, name, f, limit)
}

// Names returns, sorted, the names of the targets that the role lists and may list. The
// role is "targets" or one that the top-level targets role delegates to.
func (c *Client) Names(ctx context.Context, src Source, role string) ([]string, error) {
	s, err := c.committed()
	if err != nil {
		return nil, err
	}
	defer c.publish(s)
	return s.names(ctx, src, role)
}

// Expires returns the earliest expiry of the committed root, timestamp, snapshot and
// targets and of the delegated roles used since; zero if the metadata is not complete.
func (c *Client) Expires() time.Time {
	s, err := c.committed()
	if err != nil {
		return time.Time{}
	}
	var first time.Time
	for _, r := range s.summary() {
		if first.IsZero() || r.Expires.Before(first) {
			first = r.Expires
		}
	}
	return first
}

// ClockBehind reports whether the clock is behind what signed data proves.
func (c *Client) ClockBehind() bool {
	return c.cfg.Now().Add(clockTolerance).Before(c.State().TimeFloor)
}

// Reset forgets all state, floors included: the next Refresh starts from the factory
// root. It is an administrator's decision, for it gives up rollback protection.
func (c *Client) Reset() error {
	c.session, c.memo, c.evidence, c.logWarning, c.told = nil, map[string]*role{}, nil, "", told{}
	names, err := c.cfg.Dir.List()
	if err != nil {
		return fmt.Errorf("reset trust: %w", err)
	}
	// Floors go last: a reset that is cut short leaves them in force.
	for _, name := range names {
		if isRoleFile(name) || name == evidenceFile {
			if err := c.cfg.Dir.Remove(name); err != nil {
				return fmt.Errorf("reset trust: %w", err)
			}
		}
	}
	if err := c.dropTargets(); err != nil {
		return fmt.Errorf("reset trust: %w", err)
	}
	if err := c.floors.reset(); err != nil {
		return fmt.Errorf("reset trust: %w", err)
	}
	c.publish(nil)
	return nil
}

// usable refuses everything while the floors cannot be read.
func (c *Client) usable() error {
	if p := c.floors.problem; p != nil {
		return &Error{Untrusted, fmt.Errorf("trust floors: %w; protection against rollback is lost until "+
			"an administrator resets trust to the factory root", p)}
	}
	return nil
}

// checkTargetName applies twinkeel's rules for names, or the wider ones of Interop.
func (c *Client) checkTargetName(name string) error {
	if c.cfg.Interop {
		return checkInteropName(name)
	}
	return CheckTargetName(name)
}

// fetch asks src for one file. Whatever goes wrong says nothing about the content, so
// the code is Unavailable; a missing file is not passed on as fs.ErrNotExist, which is
// Target's word for a name that is not listed.
func (c *Client) fetch(ctx context.Context, src Source, path string, limit int64) ([]byte, error) {
	b, err := c.tryFetch(ctx, src, path, limit)
	switch {
	case err == nil || Code(err) != "":
		return b, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{Unavailable, fmt.Errorf("fetch %s: is not there", path)}
	}
	return nil, &Error{Unavailable, fmt.Errorf("fetch %s: %w", path, err)}
}

// tryFetch is fetch with the Source's own errors.
func (c *Client) tryFetch(ctx context.Context, src Source, path string, limit int64) ([]byte, error) {
	if src == nil {
		return nil, errors.New("is not cached, and there is no source")
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.FetchTimeout)
	defer cancel()
	b, err := src.Fetch(ctx, path, limit)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, untrusted("%s: got %d bytes, want at most %d", path, len(b), limit)
	}
	return b, nil
}

// untrusted makes an Error with that code.
func untrusted(format string, args ...any) error {
	return &Error{Untrusted, fmt.Errorf(format, args...)}
}
