package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Limits of polling.
const (
	MinInterval   = time.Minute
	MaxInterval   = 7 * 24 * time.Hour
	MaxBackoff    = 4 * time.Hour   // after failures, unless the interval itself is longer
	MaxRetryAfter = time.Hour       // of a server that asks to be left alone
	FirstWithin   = 5 * time.Minute // of the first poll after a boot
)

// Poll says when one host asks its server for news. Hosts that were started, or lost
// their server, at the same moment drift apart again: each adds its own phase.
type Poll struct {
	Interval time.Duration // the mean; the directive's, or the host's own
	HostID   string        // makes this host's phase differ from others'
}

// First returns how long after its start a host makes its first poll, from 0 up to
// FirstWithin. r is random: hosts that boot together after a power cut must not
// poll together, even when they boot together often.
func (p Poll) First(r uint64) time.Duration {
	return time.Duration(fraction(r) * float64(FirstWithin))
}

// Next returns how long to wait for poll number n, after failures failed polls in a
// row. It is Interval × (1 ± 0.2) after success; it doubles with each failure, up to
// MaxBackoff. retryAfter is what the server asked for, or 0; it is respected up to
// MaxRetryAfter and never shortens the wait.
func (p Poll) Next(n uint64, failures int, retryAfter time.Duration) time.Duration {
	interval := min(max(p.Interval, MinInterval), MaxInterval)
	wait := interval
	for range min(failures, 16) {
		if wait >= MaxBackoff {
			break
		}
		wait = min(2*wait, MaxBackoff)
	}
	phase := p.phase(n)
	wait = time.Duration(float64(wait) * (0.8 + 0.4*phase))
	if asked := min(retryAfter, MaxRetryAfter); asked > wait {
		// All hosts were told the same: the phase spreads them behind that moment.
		wait = asked + time.Duration(float64(asked)*0.2*phase)
	}
	return wait
}

// phase is a number in [0, 1) that differs from host to host and from poll to poll.
func (p Poll) phase(n uint64) float64 {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	sum := sha256.Sum256(append([]byte("twinkeel poll\x00"+p.HostID+"\x00"), b[:]...))
	return fraction(binary.BigEndian.Uint64(sum[:8]))
}

// fraction maps all of uint64 to [0, 1).
func fraction(r uint64) float64 { return float64(r>>11) / (1 << 53) }
