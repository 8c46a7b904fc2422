package child

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

// errSlow is the cause of a context that a meter ended.
var errSlow = errors.New("slower than 1 KiB/s")

// meter reads a body and ends the request when the body comes too slowly. It counts
// only the time spent in waiting for the server, so that our own bandwidth limit, or a
// reader with a slow disk, is not held against it.
type meter struct {
	r      io.Reader
	window time.Duration
	cancel context.CancelCauseFunc // of the request's context, which unblocks Read

	spent time.Duration
	got   int64
}

func (m *meter) Read(p []byte) (int, error) {
	t := time.AfterFunc(m.window-m.spent, func() { m.cancel(errSlow) })
	start := time.Now()
	n, err := m.r.Read(p)
	m.spent += time.Since(start)
	t.Stop()
	m.got += int64(n)
	if m.got >= int64(m.window.Seconds()*wire.FloorRate) {
		m.spent, m.got = 0, 0
	}
	if m.spent >= m.window {
		m.cancel(errSlow)
	}
	return n, err
}

// bucket spreads bytes over time: at most rate per second, with a quarter of a second
// in one go. All requests to a site share it. A nil bucket does not limit.
type bucket struct {
	rate int64

	mu   sync.Mutex
	next time.Time // when everything taken so far will have been paid
}

func newBucket(rate int64) *bucket {
	if rate == 0 {
		return nil
	}
	return &bucket{rate: rate}
}

// chunk is how many bytes to read at a time so that the flow is even.
func (b *bucket) chunk(most int) int {
	if b == nil {
		return most
	}
	return int(min(int64(most), max(b.rate/8, 512)))
}

// pay waits until n more bytes fit.
func (b *bucket) pay(ctx context.Context, n int) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	now := time.Now()
	if earliest := now.Add(-time.Second / 4); b.next.Before(earliest) {
		b.next = earliest
	}
	b.next = b.next.Add(time.Duration(float64(n) / float64(b.rate) * float64(time.Second)))
	wait := b.next.Sub(now)
	b.mu.Unlock()
	return sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
