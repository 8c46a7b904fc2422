package child

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

// probe makes one health check. An http probe is healthy when the answer is 2xx or
// 3xx; it is not followed, and its body is not read. No proxy stands between a host
// and its own services.
func probe(ctx context.Context, r wire.Request) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	var d net.Dialer
	if r.TCP != "" {
		conn, err := d.DialContext(ctx, "tcp", r.TCP)
		if err != nil {
			return fail(wire.CodeUnhealthy, "%v", err)
		}
		_ = conn.Close()
		return nil
	}
	t := &http.Transport{
		DialContext:            d.DialContext,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		TLSHandshakeTimeout:    10 * time.Second,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.HTTP, nil)
	if err != nil {
		return fail(wire.CodeInvalid, "%v", err)
	}
	req.Header.Set("User-Agent", "twinkeel-probe")
	resp, err := t.RoundTrip(req)
	if err != nil {
		return fail(wire.CodeUnhealthy, "%v", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		f := fail(wire.CodeUnhealthy, "got HTTP status %d, want 2xx or 3xx", resp.StatusCode)
		f.Status = resp.StatusCode
		return f
	}
	return nil
}
