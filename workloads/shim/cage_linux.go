package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/twinkeel/twinkeel/workloads/oci"
	"github.com/twinkeel/twinkeel/workloads/spec"
)

// cage is how an application of one isolation level is run.
type cage interface {
	// prepare makes what a start needs, once, when image and data are mounted.
	prepare(context.Context) error
	start(context.Context) (process, error)
	// exec runs a command beside the application and returns its exit code.
	exec(ctx context.Context, argv []string, in io.Reader, out, errs io.Writer) (int, error)
	// dial connects to a port that the application itself listens on.
	dial(ctx context.Context, port uint16) (net.Conn, error)
}

// process is an application that was started.
type process interface {
	pid() int // on the host
	signal(syscall.Signal) error
	kill() error
	wait() outcome
}

// outcome is how an application ended.
type outcome struct {
	exit   string // for people
	failed bool
}

// cage chooses by the level of the manifest.
func (s *supervisor) newCage() (cage, error) {
	switch level := s.order.Unit.Manifest.Isolation.Level; level {
	case "container", "sandbox":
		return container{s}, nil
	case "vm":
		return &machine{supervisor: s}, nil
	default:
		return nil, fmt.Errorf("isolation: level %s is not one that a shim knows", level)
	}
}

// container is levels container and sandbox: an OCI runtime.
type container struct{ *supervisor }

func (c container) prepare(context.Context) error {
	in := c.input()
	in.Root, in.Volumes, in.NetNS = c.path("root"), map[string]string{}, c.namespace()
	var err error
	if in.Files, err = c.files(); err != nil {
		return err
	}
	for _, v := range in.Manifest.Data {
		in.Volumes[v.Name] = c.volume(v.Name)
	}
	b, err := spec.Config(in)
	if err != nil {
		return err
	}
	return os.WriteFile(c.path("config.json"), b, 0o600)
}

func (c container) bundle() oci.Start {
	return oci.Start{ID: c.order.ID, Bundle: c.dir, Output: c.output, Files: c.sockets, Group: c.order.group(), Alone: c.order.Unit.Manifest.Network.Mode == "none"}
}

func (c container) start(ctx context.Context) (process, error) {
	pid, err := c.order.Runtime.Run(ctx, c.bundle())
	if err != nil {
		return nil, err
	}
	p, err := os.FindProcess(pid)
	return child{p}, err
}

// create is start up to the moment before the application's program is executed.
func (c container) create(ctx context.Context) (process, error) {
	pid, err := c.order.Runtime.Create(ctx, c.bundle())
	if err != nil {
		return nil, err
	}
	p, err := os.FindProcess(pid)
	return child{p}, err
}

func (c container) exec(ctx context.Context, argv []string, in io.Reader, out, errs io.Writer) (int, error) {
	code, err := c.order.Runtime.Exec(ctx, c.bundle(), argv, in, out, errs)
	if err != nil {
		c.adopt()
	}
	return code, err
}

func (c container) dial(ctx context.Context, port uint16) (net.Conn, error) {
	number := strconv.Itoa(int(port))
	var hosts []string
	if c.order.Link != nil {
		hosts = append(hosts, c.order.Link.Address.Addr().String())
	}
	if c.order.Runtime.Kind == oci.Runsc {
		// gVisor has taken the address out of the network namespace, into its own kernel.
		if hosts == nil {
			return nil, errors.New("no network leads into the sandbox")
		}
		return new(net.Dialer).DialContext(ctx, "tcp4", net.JoinHostPort(hosts[0], number))
	}
	var err error
	for _, host := range append([]string{"127.0.0.1"}, hosts...) {
		var conn net.Conn
		conn, err = dialInside(ctx, c.status.get().PID, net.JoinHostPort(host, number))
		if err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// child is a process of this host that the shim waits for.
type child struct{ *os.Process }

func (c child) pid() int                      { return c.Pid }
func (c child) signal(s syscall.Signal) error { return c.Signal(s) }
func (c child) kill() error                   { return c.Kill() }

func (c child) wait() outcome {
	state, err := c.Wait()
	if err != nil {
		return outcome{"nobody knows how", true}
	}
	return outcome{state.String(), !state.Success()}
}
