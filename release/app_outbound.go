package release

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Outbound is the permission to begin connections to the world. Its value is a
// Destination; there may be several.
const Outbound = "outbound"

// Destination is whom an application may begin to talk to: from its private network, by
// the packet filter.
type Destination struct {
	To   netip.Prefix // of IPv4
	Port uint16       // of TCP and UDP; 0: every port, and every protocol
}

// ParseDestination reads the value of an outbound permission: "ADDRESS:PORT" or
// "ADDRESS/BITS:PORT", each * for any; empty is "*:*". A name is refused: whoever answers
// for it would decide what is allowed.
func ParseDestination(value string) (Destination, error) {
	d := Destination{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	if value == "" {
		return d, nil
	}
	bad := func(what string) (Destination, error) {
		return Destination{}, fmt.Errorf("permission outbound: got %.40q, want ADDRESS[/BITS]:PORT of IPv4, * for any: %s", value, what)
	}
	host, port, ok := strings.Cut(value, ":")
	if !ok {
		return bad("no port")
	}
	if host != "*" {
		if !strings.Contains(host, "/") {
			host += "/32"
		}
		to, err := netip.ParsePrefix(host)
		if err != nil || !to.Addr().Is4() || to.Masked() != to {
			return bad("no address, or bits set behind its prefix")
		}
		d.To = to
	}
	if port != "*" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
			return bad("no number of a port")
		}
		d.Port = uint16(n)
	}
	return d, nil
}
