//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
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
		"suid-gain": gain, "device-node": brought,
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

// gain runs a copy of this program that is root's and setuid: it lies in the image, or is
// this one.
func gain() error {
	path := "/suid" // which gVisor shows without the bit
	if _, err := os.Stat(path); errors.Is(err, unix.ENOENT) {
		path = "/proc/self/exe"
		if info, err := os.Stat(path); err != nil || info.Mode()&os.ModeSetuid == 0 {
			return fmt.Errorf("%w: %s is not setuid, %v", errMute, path, err)
		}
	}
	out, err := run(path)
	if err == nil && out == fmt.Sprint(os.Getuid()) {
		return fmt.Errorf("%w: still %s", errClosed, out)
	}
	return err
}

// brought opens a device node that came with the image. Where there is none, it looks for
// a mount on which one would work.
func brought() error {
	err := opened(unix.O_RDONLY, "/null-node")()
	if _, missing := os.Lstat("/null-node"); !errors.Is(missing, unix.ENOENT) {
		return err
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("%w: %w", errMute, err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // proc_pid_mountinfo(5): the mount point, its options
		if len(f) < 6 {
			return fmt.Errorf("%w: mountinfo: got %q", errMute, line)
		}
		runtimes := strings.HasPrefix(f[4]+"/", "/dev/") || strings.HasPrefix(f[4], "/proc/") // those that are masked
		if !runtimes && !slices.Contains(strings.Split(f[5], ","), "nodev") {
			return fmt.Errorf("one would work in %s", f[4])
		}
	}
	return fmt.Errorf("%w: every mount is nodev", errClosed)
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
		"capabilities": held,
		"bounding-set": status("CapBnd", zero), "filter": status("Seccomp", "2"),
		"privileges-new": func() error {
			n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
			if err == nil && n == 1 {
				err = fmt.Errorf("%w: none", errClosed)
			}
			return err
		},
	}
}

// held wants a capability in any of the sets of a process.
func held() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return fmt.Errorf("%w: %w", errMute, err)
	}
	if sets != [2]unix.CapUserData{} {
		return nil
	}
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		// A kernel that knows no such set, as gVisor's, has nothing in it.
		if n, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, c, 0, 0); err == nil && n != 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: none", errClosed)
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
		// Of a few bytes, for places that hold no more. What runs it is this program.
		err := os.WriteFile(path, []byte("#!/proc/self/exe euid\n"), 0o700)
		if err != nil {
			return err
		}
		defer func() { _ = os.Remove(path) }()
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
