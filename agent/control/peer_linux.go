package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// GroupName is the group whose members may operate the host without being root.
const GroupName = "twinkeel"

// Peer is who is at the other end of a connection, as the kernel says.
type Peer struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
}

// Guard decides who may change the host.
type Guard struct {
	UID      uint32 // the daemon's own: root, outside of tests
	Group    uint32 // whose members may, too
	HasGroup bool
}

// MayChange reports whether p may use the verbs that change something. Everybody who
// can connect at all may read; the socket's mode sees to that.
func (g Guard) MayChange(p Peer) bool {
	if p.UID == 0 || p.UID == g.UID {
		return true
	}
	return g.HasGroup && (p.GID == g.Group || slices.Contains(p.Groups, g.Group))
}

// SystemGuard returns the guard of this machine.
func SystemGuard() Guard {
	g := Guard{UID: uint32(os.Geteuid())}
	if group, err := user.LookupGroup(GroupName); err == nil {
		if id, err := strconv.ParseUint(group.Gid, 10, 32); err == nil {
			g.Group, g.HasGroup = uint32(id), true
		}
	}
	return g
}

// peerOf asks the kernel who opened the connection.
func peerOf(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	var inner error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner != nil {
			return
		}
		p = Peer{UID: cred.Uid, GID: cred.Gid}
		p.Groups, inner = peerGroups(int(fd))
	})
	if err := errors.Join(err, inner); err != nil {
		return Peer{}, fmt.Errorf("credentials of the peer: %w", err)
	}
	return p, nil
}

// peerGroups returns the supplementary groups (SO_PEERGROUPS, Linux 4.13).
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(4 * len(groups))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:min(int(size)/4, len(groups))], nil
		case errno == unix.ERANGE && int(size)/4 > len(groups) && size <= 4*65536: // NGROUPS_MAX
			groups = make([]uint32, size/4)
		default:
			return nil, errno
		}
	}
}
