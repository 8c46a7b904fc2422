package guest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The network that QEMU makes for a guest: these addresses are its defaults.
const (
	address  = "10.0.2.15"
	mask     = "255.255.255.0"
	gateway  = "10.0.2.2"
	resolver = "nameserver 10.0.2.3\n"
	resolv   = "/etc/resolv.conf"
	device   = "eth0"
)

// network brings the guest's one link up.
func network() error {
	if err := await("the network", exists("/sys/class/net/"+device)); err != nil {
		return err
	}
	if err := errors.Join(up("lo", "", ""), up(device, address, mask), route()); err != nil {
		return err
	}
	// Its ports are nobody else's, the low ones too.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0); err != nil {
		return err
	}
	if st, err := os.Lstat(root + resolv); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	if err := os.WriteFile("/resolv.conf", []byte(resolver), 0o644); err != nil {
		return err
	}
	return onPath(resolv, 0, func(target string) error { return unix.Mount("/resolv.conf", target, "", unix.MS_BIND, "") })
}

// up gives a link its address and starts it.
func up(name, address, mask string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	set := func(call uint, fill func(*unix.Ifreq) error) error {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = fill(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, call, r)
		}
		return err
	}
	if address != "" {
		// The mask is that of an address which is there.
		err := set(unix.SIOCSIFADDR, inet4(address))
		if err == nil {
			err = set(unix.SIOCSIFNETMASK, inet4(mask))
		}
		if err != nil {
			return fmt.Errorf("link %s: address %s: %w", name, address, err)
		}
	}
	err = set(unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}

func inet4(text string) func(*unix.Ifreq) error {
	a := netip.MustParseAddr(text).As4()
	return func(r *unix.Ifreq) error { return r.SetInet4Addr(a[:]) }
}

// rtentry is the kernel's struct of that name (linux/include/uapi/linux/route.h).
type rtentry struct {
	_       uintptr
	dst     unix.RawSockaddrInet4
	gateway unix.RawSockaddrInet4
	genmask unix.RawSockaddrInet4
	flags   uint16
	_       [128]byte // the rest is zero here
}

// Flags of a route.
const routeUp, routeGateway = 1, 2

// route leads everything to the gateway.
func route() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	any4 := unix.RawSockaddrInet4{Family: unix.AF_INET}
	r := rtentry{dst: any4, gateway: any4, genmask: any4, flags: routeUp | routeGateway}
	r.gateway.Addr = netip.MustParseAddr(gateway).As4()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return fmt.Errorf("route: %w", errno)
	}
	return nil
}
