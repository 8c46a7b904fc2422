package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twinkeel/twinkeel/release"
)

const (
	// statEvery is how old the answer to a poll may be.
	statEvery = time.Second
	// maxStamp is the greatest size of a timestamp in bytes.
	maxStamp = 64 << 10
)

// stamp holds timestamp.json in memory. Every poll reads it, and nothing else.
type stamp struct {
	root *os.Root
	now  func() time.Time

	current atomic.Pointer[stamped]
	next    atomic.Int64 // when to look at the file again, Unix nanoseconds
	looking sync.Mutex
}

// stamped is one state of timestamp.json, never changed once it is shown. Header values
// are slices as http.Header wants them, so that a poll allocates none.
type stamped struct {
	err     error // why there is no content
	info    fs.FileInfo
	body    []byte
	tag     string
	etag    []string
	length  []string
	expires time.Time // zero if it cannot be read
}

func newStamp(root *os.Root, now func() time.Time) *stamp {
	s := &stamp{root: root, now: now}
	s.current.Store(s.load(nil))
	s.next.Store(now().Add(statEvery).UnixNano())
	return s
}

// get returns the timestamp as it is, or was less than a second ago. One request at a
// time looks at the file; the others go on with what is known.
func (s *stamp) get() *stamped {
	now := s.now().UnixNano()
	if next := s.next.Load(); (now >= next || now < next-int64(statEvery)) && s.looking.TryLock() {
		s.current.Store(s.load(s.current.Load()))
		s.next.Store(now + int64(statEvery))
		s.looking.Unlock()
	}
	return s.current.Load()
}

// load returns the file's state, which is old if the file has not changed.
func (s *stamp) load(old *stamped) *stamped {
	info, err := s.root.Lstat(timestampPath)
	if err != nil {
		return &stamped{err: err}
	}
	if old != nil && old.err == nil && os.SameFile(info, old.info) && info.Size() == old.info.Size() && info.ModTime().Equal(old.info.ModTime()) {
		return old
	}
	f, info, err := openRegular(s.root, timestampPath)
	if err != nil {
		return &stamped{err: err}
	}
	defer func() { _ = f.Close() }()
	body, err := io.ReadAll(io.LimitReader(f, maxStamp+1))
	if err == nil && len(body) > maxStamp {
		err = fmt.Errorf("%s: got more than %d bytes", timestampPath, maxStamp)
	}
	if err != nil {
		return &stamped{err: err}
	}
	tag := `"` + release.DigestOf(body).String() + `"`
	made := &stamped{info: info, body: body, tag: tag, etag: []string{tag}, length: []string{strconv.Itoa(len(body))}}
	var signed struct{ Signed struct{ Expires time.Time } }
	if json.Unmarshal(body, &signed) == nil {
		made.expires = signed.Signed.Expires
	}
	return made
}

// health returns what is wrong with the timestamp now.
func (s *stamp) health() error {
	switch c := s.get(); {
	case errors.Is(c.err, fs.ErrNotExist):
		return errors.New("timestamp: there is none; publish a release first")
	case c.err != nil:
		return fmt.Errorf("timestamp: %w", c.err)
	case c.expires.IsZero():
		return errors.New("timestamp: its expiry cannot be read")
	case !s.now().Before(c.expires):
		return fmt.Errorf("timestamp: expired at %s; renew it", c.expires.Format(time.RFC3339))
	}
	return nil
}
