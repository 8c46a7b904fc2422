package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/deltas"
)

const (
	// MaxGet is the greatest limit of a get request in bytes.
	MaxGet = 64 << 20
	// MaxText is the greatest length of End.Text in bytes.
	MaxText = 512
	// MaxRetryAfter is the longest wait that a server can ask for.
	MaxRetryAfter = time.Hour
	// FloorRate is the slowest a response may come, in bytes per second.
	FloorRate = 1 << 10
	maxPath   = 512
)

// Code is the stable word for how a request ended.
type Code string

// Codes of End.
const (
	CodeOK          Code = "ok"
	CodeAbsent      Code = "absent"      // the file is not there
	CodeUnavailable Code = "unavailable" // no connection, a server fault, a time-out
	CodeBroken      Code = "broken"      // the server broke a rule of HTTP or of ours
	CodeInvalid     Code = "invalid"     // the request itself is wrong
	CodeCorrupt     Code = "corrupt"     // the payload or the bundle cannot be decoded
	CodeUnhealthy   Code = "unhealthy"   // the probe found its service ill
)

// Options says how the fetcher reaches the repository. It goes over the socket, never
// into arguments, because a proxy's address may hold a password.
type Options struct {
	Server    string   `json:"server,omitempty"`    // base URL, http or https; "" for none
	Bundle    bool     `json:"bundle,omitempty"`    // serve from the descriptor instead
	CA        string   `json:"ca,omitempty"`        // PEM; replaces the system's roots
	Proxy     string   `json:"proxy,omitempty"`     // URL, "none", or "" for the environment
	UserAgent string   `json:"userAgent"`           // of every request
	Bandwidth int64    `json:"bandwidth,omitempty"` // bytes per second, 0 is no limit
	Timeouts  Timeouts `json:"timeouts"`
}

// Timeouts bounds each kind of waiting. All must be positive.
type Timeouts struct {
	Connect time.Duration `json:"connect"` // to dial, and again for the TLS handshake
	Header  time.Duration `json:"header"`  // from the request to the response's header
	Window  time.Duration `json:"window"`  // over which a body must keep FloorRate
}

// Total is the longest that a get of n bytes may take over all attempts.
func (t Timeouts) Total(n int64) time.Duration {
	return 4*(2*t.Connect+t.Header+t.Window) + time.Duration(n/FloorRate)*time.Second
}

// Validate checks everything but the certificates.
func (o Options) Validate() error {
	if o.Timeouts.Connect <= 0 || o.Timeouts.Header <= 0 || o.Timeouts.Window <= 0 {
		return fmt.Errorf("time-outs: got %+v, want all above zero", o.Timeouts)
	}
	if o.Bandwidth != 0 && o.Bandwidth < FloorRate {
		return fmt.Errorf("bandwidth: got %d bytes per second, want 0 or at least %d", o.Bandwidth, FloorRate)
	}
	if strings.ContainsFunc(o.UserAgent, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("user agent %q: want printable ASCII", o.UserAgent)
	}
	if o.Server == "" {
		return nil
	}
	_, err := ParseServer(o.Server)
	return err
}

// ParseServer reads the base URL of a repository. The error does not repeat the text,
// in which somebody may have put a password.
func ParseServer(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("server: not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("server: got scheme %.20q, want http or https", u.Scheme)
	case u.Host == "" || u.Opaque != "":
		return nil, errors.New("server: the URL names no host")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, errors.New("server: want a URL without user, query and fragment")
	}
	return u, nil
}

// Limits is what a process may use, for good: it sets them as hard limits before it
// gets to see a byte from outside, and has no privilege to raise them again.
type Limits struct {
	Memory uint64 `json:"memory"` // RLIMIT_DATA, bytes
	Files  uint64 `json:"files"`  // RLIMIT_NOFILE
	Tasks  uint64 `json:"tasks"`  // RLIMIT_NPROC; 0 leaves it alone
}

// Op names what a request asks for.
type Op string

// Ops of a Request.
const (
	OpGet    Op = "get"
	OpDecode Op = "decode"
	OpProbe  Op = "probe"
)

// Request is one question of the writer; which fields count depends on Op.
type Request struct {
	Op Op `json:"op"`

	Path   string `json:"path,omitempty"`   // get
	Offset int64  `json:"offset,omitempty"` // get
	Limit  int64  `json:"limit,omitempty"`  // get

	Segment *deltas.Segment `json:"segment,omitempty"` // decode; PayloadLength bytes follow
	Base    bool            `json:"base,omitempty"`    // decode; a descriptor came along

	HTTP    string        `json:"http,omitempty"`    // probe
	TCP     string        `json:"tcp,omitempty"`     // probe
	Timeout time.Duration `json:"timeout,omitempty"` // probe
}

// Validate checks that the request is whole and within its limits.
func (r Request) Validate() error {
	switch r.Op {
	case OpGet:
		if err := CheckPath(r.Path); err != nil {
			return err
		}
		if r.Offset < 0 || r.Limit <= 0 || r.Limit > MaxGet || r.Offset+r.Limit < 0 {
			return fmt.Errorf("get %s: got offset %d and limit %d, want a limit of 1 to %d", r.Path, r.Offset, r.Limit, MaxGet)
		}
	case OpDecode:
		if r.Segment == nil {
			return errors.New("decode: the request has no segment")
		}
		if n := r.Segment.PayloadLength; n < 0 || n > deltas.MaxPayload {
			return fmt.Errorf("decode: got a payload of %d bytes, want at most %d", n, deltas.MaxPayload)
		}
		if n := r.Segment.Length; n <= 0 || n > deltas.MaxSegment {
			return fmt.Errorf("decode: got a segment of %d bytes, want 1 to %d", n, deltas.MaxSegment)
		}
	case OpProbe:
		if (r.HTTP == "") == (r.TCP == "") {
			return errors.New("probe: want either an http or a tcp address")
		}
		if r.Timeout <= 0 {
			return fmt.Errorf("probe: got time-out %v, want one above zero", r.Timeout)
		}
	default:
		return fmt.Errorf("request: got op %.20q, want get, decode or probe", r.Op)
	}
	return nil
}

// End closes an answer. Text is for people and comes from outside.
type End struct {
	Code       Code          `json:"code"`
	Text       string        `json:"text,omitempty"`
	Status     int           `json:"status,omitempty"`     // HTTP status that the server sent
	RetryAfter time.Duration `json:"retryAfter,omitempty"` // what the server asked for
}

// Validate checks the code and the limits.
func (e End) Validate() error {
	switch e.Code {
	case CodeOK, CodeAbsent, CodeUnavailable, CodeBroken, CodeInvalid, CodeCorrupt, CodeUnhealthy:
	default:
		return fmt.Errorf("end: got code %.20q, want a known one", e.Code)
	}
	switch {
	case len(e.Text) > MaxText:
		return fmt.Errorf("end: got a text of %d bytes, want at most %d", len(e.Text), MaxText)
	case e.RetryAfter < 0 || e.RetryAfter > MaxRetryAfter:
		return fmt.Errorf("end: got a wait of %v, want at most %v", e.RetryAfter, MaxRetryAfter)
	case e.Status < 0 || e.Status > 999:
		return fmt.Errorf("end: got status %d, want an HTTP status", e.Status)
	}
	return nil
}

// Decode reads exactly one JSON value into a message: no unknown member, nothing
// behind it.
func Decode(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("got bytes behind the message, want none")
	}
	return nil
}

// CheckPath accepts a clean path relative to the repository: names of letters, digits
// and "-_.+~=@,", none of which starts with a dot. So a path means the same file in a
// URL, in a directory and in a bundle, and no spelling escapes from any of them.
func CheckPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("path %.80q: got %d bytes, want at most %d", path, len(path), maxPath)
	}
	if !fs.ValidPath(path) || path == "." {
		return fmt.Errorf("path %q: want a clean relative path", path)
	}
	start := true
	for i := 0; i < len(path); i++ {
		c := path[i]
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_+~=@,/", c) >= 0 || c == '.' && !start
		if !ok {
			return fmt.Errorf("path %q: character %q at %d is not allowed", path, c, i)
		}
		start = c == '/'
	}
	return nil
}
