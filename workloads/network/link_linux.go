package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link leads from the host's bridge into an application's namespace.
type Link struct {
	Bridge string `json:"bridge"` // its name
	Name   string `json:"name"`   // of the host's end, at most 15 bytes
	// Address is the application's, with the length of the bridge's network.
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway"` // the bridge's address
}

// Up makes the bridge with its address, or leaves it as it is. It needs root.
func Up(_ context.Context, bridge string, address netip.Prefix) error {
	l, err := netlink.LinkByName(bridge)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		attrs := netlink.NewLinkAttrs()
		// Else it would be that of one of its ports, and change as applications come and go.
		attrs.Name, attrs.HardwareAddr = bridge, hardware(address.Addr())
		if err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err == nil || errors.Is(err, unix.EEXIST) {
			l, err = netlink.LinkByName(bridge)
		}
	}
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(address)}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("bridge %s: address %s: %w", bridge, address, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	// Packets to published ports are passed on, those from the host's own loopback too.
	for file, value := range map[string]string{
		"/proc/sys/net/ipv4/ip_forward": "1", "/proc/sys/net/ipv4/conf/" + bridge + "/route_localnet": "1",
		"/proc/sys/net/ipv4/conf/all/route_localnet": "1",
	} {
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			return fmt.Errorf("bridge %s: %w", bridge, err)
		}
	}
	return nil
}

// hardware is the hardware address that belongs to an IPv4 address. Whoever spoke with that
// address remembers it for up to a minute: a version that takes the place of another, or that
// lost its shim, would not be reached for so long if it had one of its own.
func hardware(a netip.Addr) net.HardwareAddr {
	four := a.As4()
	return append(net.HardwareAddr{0x02, 't'}, four[:]...) // administered locally
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Connect makes a network namespace that can be joined at path, with one end of l in it.
func Connect(l Link, path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	ns, err := namespace(path)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", filepath.Base(path), err)
	}
	defer func() { _ = ns.Close() }()
	bridge, err := netlink.LinkByName(l.Bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", l.Bridge, err)
	}
	if old, err := netlink.LinkByName(l.Name); err == nil {
		_ = netlink.LinkDel(old) // of a namespace that is about to vanish
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = l.Name, bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: inside, PeerHardwareAddr: hardware(l.Address.Addr()), PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("link %s: %w", l.Name, err)
	}
	host, err := netlink.LinkByName(l.Name)
	if err != nil {
		return fmt.Errorf("link %s: %w", l.Name, err)
	}
	// Isolated ports of a bridge do not see each other.
	if err := errors.Join(netlink.LinkSetIsolated(host, true), netlink.LinkSetUp(host)); err != nil {
		return fmt.Errorf("link %s: %w", l.Name, err)
	}
	return within(ns, func() error { return l.setUp() })
}

// inside is what the link is called in the application's namespace.
const inside = "eth0"

// setUp gives the inner end its address and its way out.
func (l Link) setUp() error {
	// An own socket, for the ones that the library keeps belong to another namespace.
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	end, err := h.LinkByName(inside)
	if err != nil {
		return err
	}
	for _, up := range []netlink.Link{lo, end} {
		if err := h.LinkSetUp(up); err != nil {
			return fmt.Errorf("%s: %w", up.Attrs().Name, err)
		}
	}
	if err := h.AddrAdd(end, &netlink.Addr{IPNet: ipNet(l.Address)}); err != nil {
		return fmt.Errorf("address %s: %w", l.Address, err)
	}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: end.Attrs().Index, Gw: l.Gateway.AsSlice()}); err != nil {
		return fmt.Errorf("route to %s: %w", l.Gateway, err)
	}
	// Its ports are nobody else's, the low ones too.
	return os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
}

// namespace makes a network namespace and keeps it at path.
func namespace(path string) (*os.File, error) {
	type made struct {
		f   *os.File
		err error
	}
	done := make(chan made, 1)
	go func() {
		runtime.LockOSThread() // and never unlock it: the thread ends here
		err := unix.Unshare(unix.CLONE_NEWNET)
		var f *os.File
		if err == nil {
			f, err = os.Open("/proc/thread-self/ns/net")
		}
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		done <- made{f, err}
	}()
	m := <-done
	return m.f, m.err
}

// within runs a function in a network namespace, on a thread that is thrown away.
func within(ns *os.File, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- do()
	}()
	return <-done
}
