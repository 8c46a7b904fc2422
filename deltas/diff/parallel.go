package diff

import (
	"context"
	"sync"
	"sync/atomic"
)

// parallel calls work(worker, i) for each i below n, in order of i, on several threads;
// worker is below threads and is never used twice at a time. It stops at the first
// error, or when ctx is done, and returns that error.
func parallel(ctx context.Context, threads, n int, work func(ctx context.Context, worker, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for worker := range min(threads, n) {
		all.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := work(ctx, worker, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// progress adds up work that several threads do.
type progress struct {
	mu     sync.Mutex
	report func(done, total int64)
	done   int64
	total  int64
}

func (p *progress) add(n int64) {
	if p.report == nil || n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.report(p.done, p.total)
}
