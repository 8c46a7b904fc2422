package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/twinkeel/twinkeel/workloads/shim"
)

// handOver gives the sockets of the unit that runs to the version that was tried. A
// process cannot be given a socket that its start did not have, so that version starts
// once more; clients wait in the sockets' queues meanwhile. All that a start does before
// the application's own program is done while the old version still serves, and what that
// leaves is taken away when the new one does.
func (r *Runner) handOver(ctx context.Context, b *book, o *shim.Order) error {
	name, entry := o.Unit.Name(), b.Units[o.Unit.Name()]
	sockets, err := r.inherit(ctx, entry.Unit, o)
	if err != nil {
		return fmt.Errorf("switch app %s: %w", name, err)
	}
	defer closeAll(sockets)
	// Without a role it is nobody's, and swept away if this is cut here.
	if err := r.edit(b, name, func(e *roles) { e.Try = "" }); err != nil {
		return err
	}
	if err := r.finish(ctx, entry.Try); err != nil {
		return fmt.Errorf("switch app %s: %w", name, err)
	}
	next, held, err := r.prepare(ctx, b, o, sockets)
	if err != nil {
		return fmt.Errorf("switch app %s: %w", name, err)
	}
	// From here on a cut ends with the new version: a shim that nobody gives the word ends,
	// and another one is started in its place, which waits for none.
	before := b.Units[name]
	err = r.edit(b, name, func(e *roles) { e.Unit, e.Old = next.ID, entry.Unit })
	if err == nil {
		err = r.publish(ctx, b)
	}
	if err == nil && entry.Unit != "" {
		before.Unit = "" // whatever comes of it
		err = r.end(ctx, entry.Unit)
	}
	if err != nil {
		err = errors.Join(err, held.Close())
	} else {
		var ended <-chan struct{}
		if ended, err = held.Start(ctx); err == nil {
			go r.watch(next, ended)
		}
	}
	if err != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), recoverTime)
		defer cancel()
		err = errors.Join(err, r.edit(b, name, func(e *roles) { *e = before }), r.finish(late, next.ID))
		ctx = late
	}
	if entry.Unit != "" && b.Units[name].Unit != entry.Unit {
		err = errors.Join(err, r.leave(ctx, entry.Unit), r.edit(b, name, func(e *roles) { e.Old = "" }))
	}
	if err != nil {
		return fmt.Errorf("switch app %s: %w", name, err)
	}
	return nil
}

// prepare starts a shim for a unit once more, up to the moment before its application
// starts. It has no role yet.
func (r *Runner) prepare(ctx context.Context, b *book, o *shim.Order, sockets []*os.File) (*shim.Order, *shim.Held, error) {
	next, err := r.place(ctx, b, o.Unit, false)
	if err != nil {
		return nil, nil, err
	}
	err = r.bridge(ctx, next)
	var given shim.Given
	if err == nil {
		given, err = r.given(next, sockets)
	}
	if err == nil {
		var held *shim.Held
		held, err = shim.Prepare(ctx, r.Shim, r.dir(next.ID), given)
		closeImage(given)
		if err == nil {
			return next, held, nil
		}
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), recoverTime)
	defer cancel()
	return nil, nil, errors.Join(err, r.finish(late, next.ID))
}

// end ends the application of a shim, and leaves the rest to the shim and to leave.
func (r *Runner) end(ctx context.Context, id string) error {
	up, err := r.alive(id)
	if err == nil && up {
		err = r.client(id).End(ctx)
	}
	if err != nil {
		r.Log.Warn("shim does not answer and is ended", "id", id, "err", err)
	}
	if err != nil || !up {
		return shim.CleanUp(ctx, r.dir(id))
	}
	return nil
}

// leaveTime is how long a shim may take away what its application left.
const leaveTime = 5 * time.Second

// leave waits for the end of a shim whose application has ended, and takes the directory
// away.
func (r *Runner) leave(ctx context.Context, id string) error {
	limited, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	if err := r.gone(limited, id); err != nil {
		r.Log.Warn("shim does not end and is ended", "id", id, "err", err)
	}
	return r.remove(ctx, id)
}
