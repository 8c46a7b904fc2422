package child

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

const (
	// maxAttempts is how often one request is tried when its connection fails.
	maxAttempts = 4
	copyBuffer  = 64 << 10
	// maxSkip is how much of a file is thrown away to reach an offset on a server that
	// does not know ranges.
	maxSkip = 256 << 20
)

// transfer is one get over all its attempts. What was handed on cannot be taken back,
// so an attempt goes on where the last one broke off, and only in the same file.
type transfer struct {
	site *site
	wire.Request
	to    io.Writer
	sent  int64
	etag  string // strong, of the first response
	total int64  // size of the file, or unknown
}

const unknown = -1

// get implements source. It ends at the end of the file or after r.Limit bytes.
func (s *site) get(ctx context.Context, r wire.Request, w io.Writer) error {
	total := s.timeouts.Total(r.Limit)
	ctx, cancel := context.WithTimeoutCause(ctx, total, fmt.Errorf("took longer than %v", total))
	defer cancel()
	t := &transfer{site: s, Request: r, to: w, total: unknown}
	for attempt := 1; ; attempt++ {
		err := t.attempt(ctx)
		var f *failure
		if err == nil || !errors.As(err, &f) || !f.again || attempt == maxAttempts {
			return err
		}
		pause := time.Duration(1<<attempt) * 100 * time.Millisecond
		if serr := sleep(ctx, pause+rand.N(pause)); serr != nil {
			return err
		}
	}
}

func (t *transfer) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start := t.Offset + t.sent
	req, err := t.request(ctx, start)
	if err != nil {
		return fail(wire.CodeInvalid, "%v", err)
	}
	resp, err := t.site.client.Do(req)
	if err != nil {
		return networkFailure(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := statusFailure(resp, t.Path); err != nil {
		return err
	}
	skip, length, err := t.accept(resp, start, req.Header.Get("Range") != "")
	if err != nil {
		return err
	}
	body := &meter{r: resp.Body, window: t.site.timeouts.Window, cancel: cancel}
	if err := t.discard(ctx, body, skip); err != nil {
		return err
	}
	return t.copy(ctx, body, length)
}

// request asks for what is missing. Metadata is small and asked for without a range,
// which every cache and the simplest of servers understands.
func (t *transfer) request(ctx context.Context, start int64) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.site.address(t.Path), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", t.site.agent)
	req.Header.Set("Accept-Encoding", "identity")
	if start == 0 && !strings.HasPrefix(t.Path, "blobs/") {
		return req, nil
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, t.last()))
	if t.sent > 0 && t.etag != "" {
		req.Header.Set("If-Range", t.etag)
	}
	return req, nil
}

// last is the position of the last byte that is asked for.
func (t *transfer) last() int64 {
	return t.Offset + t.Limit - 1
}

// discard skips what a server without ranges sends ahead of the offset.
func (t *transfer) discard(ctx context.Context, body io.Reader, n int64) error {
	buf := make([]byte, t.site.bucket.chunk(copyBuffer))
	for n > 0 {
		got, err := body.Read(buf[:min(n, int64(len(buf)))])
		n -= int64(got)
		if perr := t.site.bucket.pay(ctx, got); perr != nil {
			return fail(wire.CodeUnavailable, "%v", perr)
		}
		if err != nil && n > 0 {
			return bodyFailure(ctx, err, true)
		}
	}
	return nil
}

// copy hands on the body, of which length bytes are announced, or unknown.
func (t *transfer) copy(ctx context.Context, body io.Reader, length int64) error {
	buf := make([]byte, t.site.bucket.chunk(copyBuffer))
	for got := int64(0); ; {
		room := t.Limit - t.sent
		if room == 0 {
			return nil
		}
		n, err := body.Read(buf[:min(room, int64(len(buf)))])
		got += int64(n)
		if n > 0 {
			if _, err := t.to.Write(buf[:n]); err != nil {
				return err
			}
			t.sent += int64(n)
		}
		if perr := t.site.bucket.pay(ctx, n); perr != nil {
			return fail(wire.CodeUnavailable, "%v", perr)
		}
		switch {
		case length != unknown && got > length:
			return fail(wire.CodeBroken, "got more than the %d bytes announced", length)
		case errors.Is(err, io.EOF) && (length == unknown || got >= length):
			return nil
		case err != nil:
			return bodyFailure(ctx, err, length != unknown)
		}
	}
}

// networkFailure judges an error from before the response. A broken connection may be
// tried again; a time-out, a refused certificate and a refused redirect may not.
func networkFailure(ctx context.Context, err error) error {
	f := fail(wire.CodeUnavailable, "%v", err)
	var certificate *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case context.Cause(ctx) != nil:
		f.Text = context.Cause(ctx).Error()
	case errors.Is(err, errRedirect):
		f.Code = wire.CodeBroken
	case isHeaderFault(err):
		f.Code = wire.CodeBroken
	case errors.As(err, &certificate):
	case errors.As(err, &timeout) && timeout.Timeout():
	default:
		f.again = true
	}
	return f
}

// bodyFailure judges an error in the middle of a body.
func bodyFailure(ctx context.Context, err error, announced bool) error {
	if cause := context.Cause(ctx); cause != nil {
		return fail(wire.CodeUnavailable, "body: %v", cause)
	}
	f := fail(wire.CodeUnavailable, "body: %v", err)
	if announced && errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		f.Text = "body: shorter than announced"
	}
	f.again = isEOF(err)
	return f
}
