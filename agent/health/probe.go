package health

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Probe is one health check. Exactly one of Unit, Command, HTTP, TCP is set.
type Probe struct {
	Name     string        `json:"name"`
	Unit     string        `json:"unit,omitempty"`    // systemd unit that has to be active
	Command  []string      `json:"command,omitempty"` // absolute path and arguments; exit code 0 is healthy
	HTTP     string        `json:"http,omitempty"`    // URL that answers 2xx
	TCP      string        `json:"tcp,omitempty"`     // host:port that accepts a connection
	Required bool          `json:"required"`          // false: advisory, reported but never condemning
	Timeout  time.Duration `json:"timeout"`
}

// Limits of a probe.
const (
	DefaultTimeout = 10 * time.Second
	MaxTimeout     = 5 * time.Minute
)

// Network makes one http or tcp check from where there is a network.
type Network interface {
	Probe(ctx context.Context, p Probe) error
}

var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,254}$`)

// Validate reports the first thing in p that no probe can be carried out with.
func (p Probe) Validate() error {
	if p.Name == "" || len(p.Name) > 64 || strings.ContainsFunc(p.Name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("name: got %.80q, want 1 to 64 characters without spaces", p.Name)
	}
	kinds := 0
	for _, set := range []bool{p.Unit != "", len(p.Command) > 0, p.HTTP != "", p.TCP != ""} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("got %d of unit, command, http and tcp, want exactly one", kinds)
	}
	if p.Timeout < 0 || p.Timeout > MaxTimeout {
		return fmt.Errorf("timeout: got %s, want at most %s", p.Timeout, MaxTimeout)
	}
	switch {
	case p.Unit != "" && !unitName.MatchString(p.Unit):
		return fmt.Errorf("unit: got %.80q, want the name of a systemd unit", p.Unit)
	case len(p.Command) > 0 && !strings.HasPrefix(p.Command[0], "/"):
		return fmt.Errorf("command: got %.80q, want an absolute path", p.Command[0])
	case p.HTTP != "":
		return checkURL(p.HTTP)
	case p.TCP != "":
		return checkAddress(p.TCP)
	}
	for _, a := range p.Command {
		if strings.ContainsRune(a, 0) {
			return fmt.Errorf("command: got a NUL byte in %.80q", a)
		}
	}
	return nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("http: got %.200q, want an http:// or https:// URL without user name", s)
	}
	return nil
}

func checkAddress(s string) error {
	i := strings.LastIndexByte(s, ':')
	if i > 0 {
		if n, err := strconv.ParseUint(s[i+1:], 10, 16); err == nil && n > 0 {
			return nil
		}
	}
	return fmt.Errorf("tcp: got %.200q, want host:port", s)
}
