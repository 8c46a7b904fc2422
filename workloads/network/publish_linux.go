package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Port is a published port: what arrives at Host goes to App at To.
type Port struct {
	Proto string // tcp or udp
	Host  uint16
	To    netip.Addr
	App   uint16
}

// Table is all that is published, and who may go out.
type Table struct {
	Name     string // of the one table of the packet filter that is ours
	Bridge   string
	Ports    []Port
	Outbound []Exit
}

// Exit lets an application begin connections to the world.
type Exit struct {
	From netip.Addr   // the application's
	To   netip.Prefix // of IPv4
	Port uint16       // of TCP and UDP; 0: every port, and every protocol
}

// Bits of a connection's state, and of how it came about, as the kernel numbers them.
const (
	stateEstablished, stateRelated = 2, 4
	statusDestinationChanged       = 1 << 5
)

// Publish puts t in the place of what was published before, in one transaction.
// Connections that exist go on where they lead. It needs root.
func Publish(_ context.Context, t Table) error {
	c, err := nftables.New(nftables.WithSockOptions(roomy))
	if err != nil {
		return fmt.Errorf("publish ports: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: t.Name}
	// Added first, so that there is one to delete; all in the same transaction.
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
	t.lead(c, table)
	t.hide(c, table)
	t.fence(c, table)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("publish ports: %w", err)
	}
	return nil
}

// transaction is more than the rules of as many applications as a host may have take, all
// in one message, and the kernel's word on each of them.
const transaction = 16 << 20

// roomy makes a socket take a whole transaction.
func roomy[S interface {
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}](s S) error {
	return errors.Join(s.SetReadBuffer(transaction), s.SetWriteBuffer(transaction))
}

// lead changes the destination of what arrives for a published port, from outside and
// from the host itself.
func (t Table) lead(c *nftables.Conn, table *nftables.Table) {
	for name, hook := range map[string]*nftables.ChainHook{"arriving": nftables.ChainHookPrerouting, "own": nftables.ChainHookOutput} {
		chain := c.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: nftables.ChainPriorityNATDest})
		for _, p := range t.Ports {
			proto := byte(unix.IPPROTO_TCP)
			if p.Proto == "udp" {
				proto = unix.IPPROTO_UDP
			}
			var rule []expr.Any
			if name == "arriving" {
				// Applications do not reach each other, by published ports neither.
				rule = append(rule, interfaceIs(expr.MetaKeyIIFNAME, expr.CmpOpNeq, t.Bridge)...)
			}
			rule = append(rule,
				// Only what is meant for an address of this host.
				&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)})
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(append(rule, portIs(proto, p.Host)...),
				&expr.Immediate{Register: 1, Data: p.To.AsSlice()},
				&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, p.App)},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
			)})
		}
	}
}

// hide changes the source of what goes out, to an address that answers find back to.
func (t Table) hide(c *nftables.Conn, table *nftables.Table) {
	chain := c.AddChain(&nftables.Chain{Name: "leaving", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	// From the host's own loopback to an application.
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(interfaceIs(expr.MetaKeyOIFNAME, expr.CmpOpEq, t.Bridge),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{127}}, &expr.Masq{})})
	var hidden []netip.Addr
	for _, e := range t.Outbound {
		if slices.Contains(hidden, e.From) {
			continue
		}
		hidden = append(hidden, e.From)
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(append(interfaceIs(expr.MetaKeyOIFNAME, expr.CmpOpNeq, t.Bridge), sourceIs(e.From)...), &expr.Masq{})})
	}
}

// fence refuses whatever an application begins, towards the host and through it, but for
// those that may go out; and whatever others begin towards one, but by a published port.
func (t Table) fence(c *nftables.Conn, table *nftables.Table) {
	from := interfaceIs(expr.MetaKeyIIFNAME, expr.CmpOpEq, t.Bridge)
	to := interfaceIs(expr.MetaKeyOIFNAME, expr.CmpOpEq, t.Bridge)
	for name, hook := range map[string]*nftables.ChainHook{"inwards": nftables.ChainHookInput, "through": nftables.ChainHookForward} {
		chain := c.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter})
		add := func(parts ...[]expr.Any) {
			var all []expr.Any
			for _, p := range parts {
				all = append(all, p...)
			}
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: all})
		}
		add(from, bits(expr.CtKeySTATE, stateEstablished|stateRelated), verdict(expr.VerdictAccept))
		if name == "through" {
			// Not to the links of this place, where clouds keep their passwords.
			add(from, linkLocal(), verdict(expr.VerdictDrop))
			for _, e := range t.Outbound {
				for _, port := range e.ports() {
					add(from, interfaceIs(expr.MetaKeyOIFNAME, expr.CmpOpNeq, t.Bridge), sourceIs(e.From), destinationIn(e.To), port, verdict(expr.VerdictAccept))
				}
			}
			add(to, bits(expr.CtKeySTATE, stateEstablished|stateRelated), verdict(expr.VerdictAccept))
			add(to, bits(expr.CtKeySTATUS, statusDestinationChanged), verdict(expr.VerdictAccept))
			add(to, verdict(expr.VerdictDrop))
		}
		add(from, verdict(expr.VerdictDrop))
	}
}

// ports match the exit's port, for each protocol that has ports.
func (e Exit) ports() [][]expr.Any {
	if e.Port == 0 {
		return [][]expr.Any{nil}
	}
	var list [][]expr.Any
	for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		list = append(list, portIs(proto, e.Port))
	}
	return list
}

// portIs matches what goes to a port.
func portIs(proto byte, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
	}
}

// destinationIn matches what goes to a network.
func destinationIn(p netip.Prefix) []expr.Any {
	if p.Bits() == 0 {
		return nil
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: destinationOffset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: []byte{0, 0, 0, 0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// Where addresses stand in a header of IPv4.
const sourceOffset, destinationOffset = 12, 16

func interfaceIs(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: b}}
}

func sourceIs(a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
	}
}

func linkLocal() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: destinationOffset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{169, 254}},
	}
}

// bits matches connections of which any of the bits is set.
func bits(key expr.CtKey, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: key},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
