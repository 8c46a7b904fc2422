package fetcher

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

const (
	// maxCA is the greatest size of a file of certificate authorities in bytes.
	maxCA = 256 << 10
	// defaultUser is the account that Spawn drops to when the writer is root.
	defaultUser = "twinkeel-fetch"
	// defaultMemory holds the four 64 MiB arenas in which the Go heap grows; what is
	// really used stays below 32 MiB.
	defaultMemory = 256 << 20
)

// Options says how the repository is reached. Only Server is needed.
type Options struct {
	Server    string   // base URL of the repository; may be empty for bundles alone
	CAFile    string   // PEM file of the only authorities to accept; "" for the system's
	Proxy     string   // URL, "none", or "" for the proxy variables of the environment
	Bandwidth int64    // bytes per second, 0 for no limit, at least 1024 otherwise
	Version   string   // of this program, for the User-Agent
	Timeouts  Timeouts // zero fields take their defaults

	User   string        // Spawn: account of the process; "" is twinkeel-fetch
	Memory int64         // Spawn: RLIMIT_DATA of the process in bytes; 0 is 256 MiB
	Idle   time.Duration // Spawn: how long the process outlives its last request; 0 is a minute

	Log *slog.Logger // nil is silence
}

// Timeouts bounds each kind of waiting.
type Timeouts struct {
	Connect time.Duration // to dial, and again for TLS; 15 s
	Header  time.Duration // from the request to the header of the response; 30 s
	Window  time.Duration // over which a body must keep 1 KiB/s; 30 s
	Silence time.Duration // of the process, which says every 5 s that it is alive; 30 s
}

func (o Options) withDefaults() Options {
	setDefault(&o.Timeouts.Connect, 15*time.Second)
	setDefault(&o.Timeouts.Header, 30*time.Second)
	setDefault(&o.Timeouts.Window, 30*time.Second)
	setDefault(&o.Timeouts.Silence, 30*time.Second)
	setDefault(&o.Idle, time.Minute)
	setDefault(&o.User, defaultUser)
	setDefault(&o.Memory, defaultMemory)
	setDefault(&o.Version, "0")
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// encode returns the frame that opens a connection. The file of authorities is read
// here, because the process may have no right to.
func (o Options) encode(bundle bool) ([]byte, error) {
	w := wire.Options{
		Server:    o.Server,
		Bundle:    bundle,
		Proxy:     o.Proxy,
		UserAgent: "twinkeel/" + o.Version,
		Bandwidth: o.Bandwidth,
		Timeouts:  wire.Timeouts{Connect: o.Timeouts.Connect, Header: o.Timeouts.Header, Window: o.Timeouts.Window},
	}
	if o.CAFile != "" {
		f, err := os.Open(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificate authorities: %w", err)
		}
		defer func() { _ = f.Close() }()
		pem, err := io.ReadAll(io.LimitReader(f, maxCA+1))
		if err != nil {
			return nil, fmt.Errorf("certificate authorities: %w", err)
		}
		if len(pem) > maxCA {
			return nil, fmt.Errorf("certificate authorities %s: got more than %d bytes", o.CAFile, maxCA)
		}
		w.CA = string(pem)
	}
	if err := w.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(w)
}
