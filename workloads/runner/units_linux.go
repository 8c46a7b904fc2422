package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/shim"
)

// Stop implements workloads.Runner. It ends what was tried, too.
func (r *Runner) Stop(ctx context.Context, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := readBook(r.Run)
	if err != nil {
		return err
	}
	entry, ok := b.Units[name]
	if !ok {
		return nil
	}
	last := entry.Last
	if entry.Unit != "" {
		if st, err := r.client(entry.Unit).Status(ctx); err == nil {
			last = st.State
		}
	}
	last.Running = false
	// First nobody is led to it and it is not started again, then it ends.
	if err := r.edit(b, name, func(e *roles) { *e = roles{Old: entry.Unit, Last: last} }); err != nil {
		return err
	}
	r.leaveImage(name)
	err = r.publish(ctx, b)
	for _, id := range entry.all() {
		err = errors.Join(err, r.finish(ctx, id))
	}
	if err != nil {
		return fmt.Errorf("stop app %s: %w", name, err)
	}
	return r.edit(b, name, func(e *roles) { e.Old = "" })
}

// role reads the roles of a name without waiting for a change that is under way.
func (r *Runner) role(name string) (roles, error) {
	b, err := readBook(r.Run)
	if err != nil {
		return roles{}, err
	}
	return b.Units[name], nil
}

// Status implements workloads.Prober.
func (r *Runner) Status(ctx context.Context, name string) (workloads.State, error) {
	entry, err := r.role(name)
	if err != nil || entry.Unit == "" {
		return entry.Last, err
	}
	return r.state(ctx, name, entry.Unit)
}

// Tried implements workloads.Switcher.
func (r *Runner) Tried(ctx context.Context, name string) (workloads.State, error) {
	entry, err := r.role(name)
	if err != nil || entry.Try == "" {
		return workloads.State{}, err
	}
	return r.state(ctx, name, entry.Try)
}

// TriedLogs implements workloads.Switcher.
func (r *Runner) TriedLogs(ctx context.Context, name string, count int, w io.Writer) error {
	entry, err := r.role(name)
	if err == nil && entry.Try != "" {
		err = r.logs(ctx, r.trialLog(entry.Try), count, false, w)
	}
	if err != nil {
		return fmt.Errorf("log of the trial of app %s: %w", name, err)
	}
	return nil
}

// state is how the unit of a shim is, or was ordered to be if the shim is gone.
func (r *Runner) state(ctx context.Context, name, id string) (workloads.State, error) {
	st, err := r.client(id).Status(ctx)
	if err == nil {
		return st.State, nil
	}
	o, readErr := shim.ReadOrder(r.dir(id))
	if readErr != nil {
		return workloads.State{}, fmt.Errorf("status of app %s: %w", name, errors.Join(err, readErr))
	}
	app, err := o.Unit.Manifest.Digest()
	return workloads.State{Version: o.Unit.Manifest.Version, App: app, Generation: o.Unit.Generation, Exit: "its shim is gone"}, err
}

// Healthy implements workloads.Prober.
func (r *Runner) Healthy(ctx context.Context, name string) error {
	entry, err := r.role(name)
	if err == nil && entry.Unit == "" {
		err = errors.New("it was not started")
	}
	if err == nil {
		err = r.client(entry.Unit).Check(ctx)
	}
	if err != nil {
		return fmt.Errorf("app %s: %w", name, err)
	}
	return nil
}

// Try implements workloads.Switcher.
func (r *Runner) Try(ctx context.Context, u workloads.Unit) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := readBook(r.Run)
	if err != nil {
		return err
	}
	if b.Units[u.Name()].Try != "" {
		return fmt.Errorf("try app %s: something else is tried", u.Name())
	}
	sockets, err := r.listeners(u.Manifest.Network.Sockets, true)
	if err != nil {
		return fmt.Errorf("try app %s: %w", u.Name(), err)
	}
	defer closeAll(sockets)
	return r.launch(ctx, b, u, sockets, func(e *roles, id string) { e.Try = id })
}

// HealthyTry implements workloads.Switcher.
func (r *Runner) HealthyTry(ctx context.Context, name string) error {
	entry, err := r.role(name)
	if err == nil && entry.Try == "" {
		err = errors.New("nothing is tried")
	}
	if err == nil {
		err = r.client(entry.Try).Check(ctx)
	}
	if err != nil {
		return fmt.Errorf("trial of app %s: %w", name, err)
	}
	return nil
}

// drain is how long the old version still accepts connections that reached it just
// before nobody was led to it any more.
const drain = 100 * time.Millisecond

// Switch implements workloads.Switcher.
func (r *Runner) Switch(ctx context.Context, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := readBook(r.Run)
	if err != nil {
		return err
	}
	entry := b.Units[name]
	if entry.Try == "" {
		return fmt.Errorf("switch app %s: nothing is tried", name)
	}
	o, err := shim.ReadOrder(r.dir(entry.Try))
	if err != nil {
		return fmt.Errorf("switch app %s: %w", name, err)
	}
	if len(o.Unit.Manifest.Network.Sockets) > 0 {
		return r.handOver(ctx, b, o)
	}
	if err := r.edit(b, name, func(e *roles) { e.Unit, e.Try, e.Old = entry.Try, "", entry.Unit }); err != nil {
		return err
	}
	if err := r.publish(ctx, b); err != nil {
		// Clients are where they were, and so are the roles.
		return fmt.Errorf("switch app %s: %w", name, errors.Join(err, r.edit(b, name, func(e *roles) { *e = entry })))
	}
	if entry.Unit == "" {
		return nil
	}
	time.Sleep(drain)
	if err := r.finish(ctx, entry.Unit); err != nil {
		return fmt.Errorf("switch app %s: %w", name, err)
	}
	return r.edit(b, name, func(e *roles) { e.Old = "" })
}

// inherit takes the sockets of the unit that runs if they are the same as those of the
// next one, and opens new ones if not.
func (r *Runner) inherit(ctx context.Context, id string, next *shim.Order) ([]*os.File, error) {
	list := next.Unit.Manifest.Network.Sockets
	if id != "" {
		before, err := shim.ReadOrder(r.dir(id))
		if err == nil && fmt.Sprint(before.Unit.Manifest.Network.Sockets) == fmt.Sprint(list) {
			files, err := r.client(id).Sockets(ctx)
			if err == nil && len(files) == len(list) {
				return files, nil
			}
			closeAll(files)
		}
	}
	return r.listeners(list, false)
}

// Drop implements workloads.Switcher.
func (r *Runner) Drop(ctx context.Context, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := readBook(r.Run)
	if err != nil {
		return err
	}
	id := b.Units[name].Try
	if id == "" {
		return nil
	}
	// Without a role it is nobody's, and swept away if this is cut here.
	if err := r.edit(b, name, func(e *roles) { e.Try = "" }); err != nil {
		return err
	}
	if err := r.finish(ctx, id); err != nil {
		return fmt.Errorf("drop trial of app %s: %w", name, err)
	}
	return nil
}

// Exec implements workloads.Console.
func (r *Runner) Exec(ctx context.Context, name string, argv []string, in io.Reader, out, errs io.Writer) (int, error) {
	entry, err := r.role(name)
	if err == nil && entry.Unit == "" {
		err = errors.New("it does not run")
	}
	if err != nil {
		return 0, fmt.Errorf("exec in app %s: %w", name, err)
	}
	if in == nil {
		in = bytes.NewReader(nil)
	}
	var p pipes
	defer p.close()
	stdin, err1 := p.from(in)
	stdout, err2 := p.to(out)
	stderr, err3 := stdout, err2
	if errs != out { // one writer is written to by one alone
		stderr, err3 = p.to(errs)
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, fmt.Errorf("exec in app %s: %w", name, err)
	}
	code, err := r.client(entry.Unit).Exec(ctx, argv, stdin, stdout, stderr)
	p.finish()
	if err != nil {
		return 0, fmt.Errorf("exec in app %s: %w", name, err)
	}
	return code, nil
}
