package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/shim"
)

// Recover starts again what lost its shim, in the order in which units start, ends what was
// to end, and publishes what is to be published. It is called by Open, and by whoever wants to
// look again. What fails of it is tried again by itself.
func (r *Runner) Recover(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.mend(ctx)
	if err == nil {
		r.failed = 0
	} else if !r.pending {
		r.pending = true
		time.AfterFunc(min(watchPause<<min(r.failed, 10), recoverTime), r.recoverAgain)
		r.failed++
	}
	return err
}

// recoverAgain is Recover some time after one that failed.
func (r *Runner) recoverAgain() {
	ctx, cancel := context.WithTimeout(context.Background(), recoverTime)
	defer cancel()
	r.mu.Lock()
	r.pending = false
	r.mu.Unlock()
	if err := r.Recover(ctx); err != nil {
		r.Log.Error("not everything that ran runs again", "err", err)
	}
}

// mend does all that Recover does, once.
func (r *Runner) mend(ctx context.Context) error {
	b, err := readBook(r.Run)
	if err != nil {
		return err
	}
	var problems []error
	known := map[string]bool{}
	for _, name := range r.inOrder(b) {
		entry := b.Units[name]
		if entry.Old != "" {
			problems = append(problems, r.finish(ctx, entry.Old), r.edit(b, name, func(e *roles) { e.Old = "" }))
		}
		for _, id := range []string{entry.Unit, entry.Try} {
			if id == "" {
				continue
			}
			known[id] = true
			if up, err := r.alive(id); up || err != nil {
				problems = append(problems, err)
				continue
			}
			r.Log.Warn("shim is gone; starting the application again", "app", name)
			if err := r.respawn(ctx, id, id == entry.Try); err != nil {
				problems = append(problems, fmt.Errorf("app %s: %w", name, err))
			}
		}
	}
	problems = append(problems, r.sweep(ctx, known), r.publish(ctx, b))
	return errors.Join(problems...)
}

// inOrder is a book's names as their units start.
func (r *Runner) inOrder(b *book) []string {
	after, system := map[string][]string{}, map[string]bool{}
	for name, entry := range b.Units {
		if o, err := shim.ReadOrder(r.dir(entry.Unit)); err == nil {
			after[name], system[name] = o.Unit.Manifest.After, o.Unit.Manifest.Class == "system"
		}
	}
	return workloads.StartOrder(slices.Collect(maps.Keys(b.Units)), after, system)
}

// watch waits for the end of a shim that nobody asked for.
func (r *Runner) watch(o *shim.Order, ended <-chan struct{}) {
	<-ended
	time.Sleep(watchPause) // a shim that is killed again and again must not keep us busy
	ctx, cancel := context.WithTimeout(context.Background(), recoverTime)
	defer cancel()
	r.mu.Lock()
	b, err := readBook(r.Run)
	r.mu.Unlock()
	if err != nil {
		r.Log.Error("cannot look after applications", "err", err)
		return
	}
	entry := b.Units[o.Unit.Name()]
	if entry.Unit != o.ID && entry.Try != o.ID {
		return // it was stopped
	}
	if err := r.Recover(ctx); err != nil {
		r.Log.Error("application cannot be started again", "app", o.Unit.Name(), "err", err)
	}
}

const (
	watchPause  = 200 * time.Millisecond
	recoverTime = time.Minute
)
