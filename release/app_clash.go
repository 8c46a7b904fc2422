package release

import (
	"fmt"
	"net/netip"
)

// Clash says what m cannot have on a host on which other has it: its name, a published
// port, or an address to listen at; nil if the two can run side by side.
func (m *AppManifest) Clash(other *AppManifest) error {
	if m.Name == other.Name {
		return fmt.Errorf("name: app %s/%s is called so too", other.Publisher, other.Name)
	}
	for _, p := range m.Network.Publish {
		for _, q := range other.Network.Publish {
			if p.Proto == q.Proto && p.Host == q.Host {
				return fmt.Errorf("port %s %d: app %s publishes it", p.Proto, p.Host, other.Name)
			}
		}
		for _, s := range other.Network.Sockets {
			if leadsAway(p, s) {
				return fmt.Errorf("port %s %d: app %s listens at %s", p.Proto, p.Host, other.Name, s.Listen)
			}
		}
	}
	for _, s := range m.Network.Sockets {
		for _, o := range other.Network.Sockets {
			if s.Overlaps(o) {
				return fmt.Errorf("socket %s: app %s listens at %s", s.Name, other.Name, o.Listen)
			}
		}
		for _, q := range other.Network.Publish {
			if leadsAway(q, s) {
				return fmt.Errorf("socket %s: app %s publishes port %s %d", s.Name, other.Name, q.Proto, q.Host)
			}
		}
	}
	return nil
}

// leadsAway reports whether clients of a socket would come to a published port instead: it
// takes what arrives at its number at any of the host's addresses of IPv4.
func leadsAway(p AppPort, s AppSocket) bool {
	at, err := netip.ParseAddrPort(s.Listen)
	return err == nil && p.Proto == "tcp" && p.Host == at.Port() && (at.Addr().Unmap().Is4() || at.Addr().IsUnspecified())
}

// Overlaps reports whether two sockets cannot both be listened at.
func (s AppSocket) Overlaps(o AppSocket) bool {
	a, errA := netip.ParseAddrPort(s.Listen)
	b, errB := netip.ParseAddrPort(o.Listen)
	if errA != nil || errB != nil || a.Port() != b.Port() {
		return false
	}
	x, y := a.Addr().Unmap(), b.Addr().Unmap()
	return x == y || covers(x, y) || covers(y, x)
}

// covers reports whether a stands for all addresses, b among them. That of IPv6 takes
// those of IPv4 in.
func covers(a, b netip.Addr) bool {
	return a.IsUnspecified() && (a.Is6() || b.Is4())
}
