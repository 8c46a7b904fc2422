package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/network"
	"github.com/twinkeel/twinkeel/workloads/shim"
	"github.com/twinkeel/twinkeel/workloads/spec"
)

// Start implements workloads.Runner.
func (r *Runner) Start(ctx context.Context, u workloads.Unit) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := readBook(r.Run)
	if err != nil {
		return err
	}
	if id := b.Units[u.Name()].Unit; id != "" {
		return fmt.Errorf("start app %s: it runs already", u.Name())
	}
	sockets, err := r.listeners(u.Manifest.Network.Sockets, false)
	if err != nil {
		return fmt.Errorf("start app %s: %w", u.Name(), err)
	}
	defer closeAll(sockets)
	return r.launch(ctx, b, u, sockets, func(e *roles, id string) { e.Unit = id })
}

// launch writes down what is about to start, in the role that take gives it, and starts it.
func (r *Runner) launch(ctx context.Context, b *book, u workloads.Unit, sockets []*os.File, take func(*roles, string)) error {
	before := b.Units[u.Name()]
	var role roles
	take(&role, "it")
	o, err := r.place(ctx, b, u, role.Try != "")
	if err != nil {
		return err
	}
	err = r.edit(b, u.Name(), func(e *roles) { take(e, o.ID) })
	if err == nil {
		err = r.spawn(ctx, o, sockets)
	}
	if err == nil {
		err = r.publish(ctx, b)
	}
	if err != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), recoverTime)
		defer cancel()
		return errors.Join(err, r.edit(b, u.Name(), func(e *roles) { *e = before }), r.finish(end, o.ID))
	}
	return nil
}

// place makes the directory of a unit's next shim, with its order.
func (r *Runner) place(ctx context.Context, b *book, u workloads.Unit, trial bool) (*shim.Order, error) {
	o, err := r.order(ctx, b, u)
	if err != nil {
		return nil, fmt.Errorf("start app %s: %w", u.Name(), err)
	}
	b.Next++
	if trial {
		o.TrialLog = r.trialLog(o.ID)
	}
	err = os.MkdirAll(r.dir(o.ID), 0o711)
	if err == nil {
		err = shim.WriteOrder(r.dir(o.ID), *o)
	}
	if err != nil {
		return nil, fmt.Errorf("start app %s: %w", u.Name(), errors.Join(err, os.RemoveAll(r.dir(o.ID))))
	}
	return o, nil
}

// order puts together what the shim of u needs to know.
func (r *Runner) order(ctx context.Context, b *book, u workloads.Unit) (*shim.Order, error) {
	m := u.Manifest
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if err := spec.Suits(m); err != nil {
		return nil, err
	}
	if err := errors.Join(present(u.Grants), r.clashes(b, m)); err != nil {
		return nil, err
	}
	found, err := r.runtime(ctx, m.Isolation.Level)
	if err != nil {
		return nil, err
	}
	host, err := r.machine(m.Isolation)
	if err != nil {
		return nil, err
	}
	first, err := firstID(r.IDs, m.Name)
	if err != nil {
		return nil, err
	}
	o := &shim.Order{
		ID: m.Name + "." + strconv.Itoa(b.Next), Instance: r.Instance, Unit: u, FirstID: first, Runtime: found, Machine: host,
		Log: r.log(m.Name), Devices: devices(u.Grants),
	}
	if m.Network.Mode == "private" {
		if o.Link, err = r.link(b); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// link finds an address that no unit has. The first one is the bridge's.
func (r *Runner) link(b *book) (*network.Link, error) {
	var taken []netip.Addr
	for _, entry := range b.Units {
		for _, id := range entry.all() {
			if o, err := shim.ReadOrder(r.dir(id)); err == nil && o.Link != nil {
				taken = append(taken, o.Link.Address.Addr())
			}
		}
	}
	bridge := r.Network.Masked().Addr().Next()
	for a := bridge.Next(); r.Network.Contains(a.Next()); a = a.Next() {
		if !slices.Contains(taken, a) {
			four := a.As4()
			return &network.Link{
				Bridge: r.Bridge, Name: fmt.Sprintf("tk%02x%02x%02x%02x", four[0], four[1], four[2], four[3]),
				Address: netip.PrefixFrom(a, r.Network.Bits()), Gateway: bridge,
			}, nil
		}
	}
	return nil, fmt.Errorf("network %s: %w: got no free address in it", r.Network, workloads.ErrMissing)
}

// publish makes the packet filter say what the roles say.
func (r *Runner) publish(ctx context.Context, b *book) error {
	t := network.Table{Name: r.Instance, Bridge: r.Bridge}
	private := false
	for _, entry := range b.Units {
		for _, id := range entry.all() {
			o, err := shim.ReadOrder(r.dir(id))
			if err != nil || o.Link == nil {
				continue
			}
			private = true
			to := o.Link.Address.Addr()
			for _, p := range o.Unit.Manifest.Permissions {
				if p.Name != release.Outbound || !slices.Contains(o.Unit.Grants, p) || o.Unit.Rehearsal {
					continue
				}
				d, err := release.ParseDestination(p.Value)
				if err != nil {
					return err
				}
				t.Outbound = append(t.Outbound, network.Exit{From: to, To: d.To, Port: d.Port})
			}
			if id != entry.Unit {
				continue
			}
			for _, p := range o.Unit.Manifest.Network.Publish {
				t.Ports = append(t.Ports, network.Port{Proto: p.Proto, Host: p.Host, To: to, App: p.App})
			}
		}
	}
	if !private {
		return nil // nobody is left behind a rule; a host without such apps needs no table
	}
	return network.Publish(ctx, t)
}

// listeners open the sockets of a manifest; for a trial at ports that nobody knows.
func (r *Runner) listeners(list []release.AppSocket, trial bool) (files []*os.File, err error) {
	for _, s := range list {
		at := s.Listen
		if trial {
			at = "127.0.0.1:0"
		}
		l, err := listen(at)
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("socket %s: %w: %w", s.Name, workloads.ErrMissing, err)
		}
		files = append(files, l)
	}
	return files, nil
}

// listen returns a listening socket. The shim of a unit that is just ending may hold the
// address for a moment.
func listen(at string) (*os.File, error) {
	const patience = 50
	var err error
	for range patience {
		var l net.Listener
		if l, err = net.Listen("tcp", at); err == nil {
			f, err := l.(*net.TCPListener).File()
			return f, errors.Join(err, l.Close())
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// devices are the numbers of granted device nodes, as far as they are there.
func devices(grants []release.AppPermission) map[string]spec.Device {
	found := map[string]spec.Device{}
	for _, g := range grants {
		name, _, _ := strings.Cut(g.Value, ":")
		var s unix.Stat_t
		if g.Name != "device" || unix.Lstat(name, &s) != nil {
			continue
		}
		kind := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[s.Mode&unix.S_IFMT]
		found[name] = spec.Device{Type: kind, Major: int64(unix.Major(s.Rdev)), Minor: int64(unix.Minor(s.Rdev))}
	}
	return found
}
