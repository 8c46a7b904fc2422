//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func sockets() map[string]attempt {
	return map[string]attempt{
		"socket-inet": socket(unix.AF_INET, unix.SOCK_STREAM, 0),
		"socket-raw":  socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW), "socket-raw6": socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_RAW),
		"socket-icmp":   socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP),
		"socket-packet": socket(unix.AF_PACKET, unix.SOCK_RAW, 0), "socket-alg": socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
		"socket-vsock": socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0), "socket-key": socket(unix.AF_KEY, unix.SOCK_RAW, 2),
		"socket-xdp": socket(unix.AF_XDP, unix.SOCK_RAW, 0), "socket-can": socket(unix.AF_CAN, unix.SOCK_RAW, 1),
		"socket-tipc": socket(unix.AF_TIPC, unix.SOCK_SEQPACKET, 0), "socket-bluetooth": socket(unix.AF_BLUETOOTH, unix.SOCK_RAW, 1),
		"socket-rds":             socket(unix.AF_RDS, unix.SOCK_SEQPACKET, 0),
		"socket-uevent":          socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT),
		"socket-netfilter":       socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER),
		"socket-audit":           socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT),
		"socket-xfrm":            socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM),
		"socket-generic-netlink": socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC),
		"socket-unix-abstract":   func() error { return dial("unix", "@twinkeel-probe") },
		"metadata-address":       func() error { return dial("tcp", "169.254.169.254:80") },
		"interface": func() error {
			all, err := net.Interfaces()
			for _, i := range all {
				if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
					return nil
				}
			}
			return fmt.Errorf("%w: %d interfaces, %v", errClosed, len(all), err)
		},
	}
}

func socket(family, kind, protocol int) attempt {
	return func() error {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
}

// dial wants a connection. Where there is nobody or no way, it is out of reach.
func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, 300*time.Millisecond)
	for _, e := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENOENT} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", errClosed, err)
		}
	}
	if network == "unix" && errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("%w: %w", errClosed, err)
	}
	if err != nil {
		return err
	}
	return c.Close()
}

func self(leaks []string) map[string]attempt {
	return map[string]attempt{
		"root-write": write("/probe-was-here"), "etc-write": write("/etc/probe-was-here"),
		"exec-tmp": execute("/tmp/copy"), "exec-shm": execute("/dev/shm/copy"),
		"suid-gain": func() error {
			out, err := run("/suid")
			switch {
			case errors.Is(err, unix.ENOENT):
				return errMute
			case err != nil:
				return err
			case out == fmt.Sprint(os.Geteuid()):
				return fmt.Errorf("%w: still %s", errClosed, out)
			}
			return nil
		},
		"device-node": func() error {
			err := opened(unix.O_RDONLY, "/null-node")()
			if errors.Is(err, unix.ENOENT) {
				return errMute
			}
			return err
		},
		"descriptor-leak": func() error {
			if len(leaks) == 0 {
				return fmt.Errorf("%w: none", errClosed)
			}
			return fmt.Errorf("has %s", strings.Join(leaks, " "))
		},
		"agent-socket": func() error {
			return dial("unix", "/run/twinkeel/twinkeel.sock")
		},
	}
}

// standing is what the kernel thinks of this process.
func standing() map[string]attempt {
	const zero = "0000000000000000"
	return map[string]attempt{
		"host-root-id": func() error {
			b, err := os.ReadFile("/proc/self/uid_map")
			if err != nil {
				return fmt.Errorf("%w: %w", errMute, err)
			}
			for line := range strings.Lines(string(b)) {
				if f := strings.Fields(line); len(f) == 3 && f[1] == "0" {
					return nil
				}
			}
			return fmt.Errorf("%w: %s", errClosed, strings.Join(strings.Fields(string(b)), " "))
		},
		"groups": func() error {
			groups, err := os.Getgroups()
			for _, g := range groups {
				if g != os.Getgid() {
					return nil
				}
			}
			return fmt.Errorf("%w: %v, %v", errClosed, groups, err)
		},
		"capabilities": func() error {
			for _, set := range []string{"CapEff", "CapPrm", "CapInh", "CapAmb"} {
				if err := status(set, zero)(); !errors.Is(err, errClosed) {
					return err
				}
			}
			return fmt.Errorf("%w: none", errClosed)
		},
		"bounding-set": status("CapBnd", zero), "privileges-new": status("NoNewPrivs", "1"), "filter": status("Seccomp", "2"),
	}
}

// status wants a line of the process's status not to say want.
func status(key, want string) attempt {
	return func() error {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return fmt.Errorf("%w: %w", errMute, err)
		}
		for line := range strings.Lines(string(b)) {
			if k, v, _ := strings.Cut(line, ":"); k == key {
				if v = strings.TrimSpace(v); v == want {
					return fmt.Errorf("%w: %s", errClosed, v)
				}
				return nil
			}
		}
		return errMute
	}
}

// write wants a new file, and takes it away again.
func write(path string) attempt {
	return func() error {
		err := os.WriteFile(path, nil, 0o600)
		if errors.Is(err, unix.EROFS) {
			return fmt.Errorf("%w: %w", errClosed, err)
		}
		if err == nil {
			return os.Remove(path)
		}
		return err
	}
}

// execute wants to run code from a place where it may write.
func execute(path string) attempt {
	return func() error {
		in, err := os.Open("/proc/self/exe")
		if err != nil {
			return fmt.Errorf("%w: %w", errMute, err)
		}
		defer func() { _ = in.Close() }()
		out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o700)
		if err != nil {
			return err
		}
		defer func() { _ = os.Remove(path) }()
		_, err = io.Copy(out, in)
		if err := errors.Join(err, out.Close()); err != nil {
			return fmt.Errorf("%w: %w", errMute, err)
		}
		_, err = run(path)
		return err
	}
}

// leakedDescriptors are those that this program neither opened nor was given as its
// standard ones, and that lead to a file.
func leakedDescriptors() []string {
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return []string{err.Error()}
	}
	var leaks []string
	for _, name := range names {
		to, err := os.Readlink(name)
		if err != nil || len(filepath.Base(name)) == 1 && filepath.Base(name) < "3" {
			continue
		}
		if strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "/proc/") && !strings.HasPrefix(to, "/sys/fs/cgroup/") {
			leaks = append(leaks, to)
		}
	}
	return leaks
}
