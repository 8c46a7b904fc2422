package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/needs"
)

// apart runs a test in network and mount namespaces of its own, on a thread that is
// thrown away.
func apart(t *testing.T, do func()) {
	t.Helper()
	needs.That(t, os.Geteuid() == 0, "root, for networks")
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock it
		err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil { // what is written below /proc/sys is this namespace's
			err = unix.Mount("proc", "/proc", "proc", 0, "")
		}
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// tableName is not that of a host's, or another test's.
var tableName = fmt.Sprintf("tk%d", os.Getpid())

// rules counts the rules of each chain of our table.
func rules(t *testing.T) map[string]int {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil || len(tables) != 1 || tables[0].Name != tableName {
		t.Errorf("tables: got %d, %v, want ours alone", len(tables), err)
		return nil
	}
	chains, err := c.ListChains()
	if err != nil {
		t.Error(err)
	}
	count := map[string]int{}
	for _, chain := range chains {
		list, err := c.GetRules(chain.Table, chain)
		if err != nil {
			t.Error(err)
		}
		count[chain.Name] = len(list)
	}
	return count
}

// fence is how many rules stand in chain through, whatever is published.
const fence = 6

func TestPublishReplacesAllThatWasPublished(t *testing.T) {
	apart(t, func() {
		web := netip.MustParseAddr("10.213.0.2")
		everywhere := netip.MustParsePrefix("0.0.0.0/0")
		many := Table{Name: tableName, Bridge: "tktest1"}
		for n := range 1024 { // 64 applications, of which each has all that it may have
			many.Ports = append(many.Ports, Port{"tcp", uint16(8000 + n), web, 80}, Port{"udp", uint16(8000 + n), web, 80})
			many.Outbound = append(many.Outbound, Exit{web, everywhere, uint16(1 + n)}, Exit{web, everywhere, uint16(2000 + n)})
		}
		one := Table{Name: tableName, Bridge: "tktest1", Ports: many.Ports[:1], Outbound: []Exit{{web, everywhere, 0}, {web, netip.MustParsePrefix("192.0.2.0/24"), 443}}}
		for _, c := range []struct {
			table         Table
			ports, hidden int
			exits         int
		}{{many, 2048, 1, 4096}, {one, 1, 1, 3}, {Table{Name: tableName, Bridge: "tktest1"}, 0, 0, 0}, {one, 1, 1, 3}} {
			if err := Publish(t.Context(), c.table); err != nil {
				t.Error(err)
				return
			}
			got := rules(t)
			want := map[string]int{"arriving": c.ports, "own": c.ports, "leaving": 1 + c.hidden, "inwards": 2, "through": fence + c.exits}
			for chain, n := range want {
				if got[chain] != n {
					t.Errorf("%d ports, chain %s: got %d rules, want %d", len(c.table.Ports), chain, got[chain], n)
				}
			}
		}
	})
}

// hardwareOf is the hardware address of a bridge, and of the inner end in a namespace.
func hardwareOf(t *testing.T, bridge, path string) string {
	t.Helper()
	l, err := netlink.LinkByName(bridge)
	if err != nil {
		t.Error(err)
		return ""
	}
	text := l.Attrs().HardwareAddr.String()
	if path == "" {
		return text
	}
	opened := make(chan *os.File)
	go func() { // on another thread: what Connect mounts is not in this one's namespace
		ns, err := os.Open(path)
		if err != nil {
			t.Error(err)
		}
		opened <- ns
	}()
	ns := <-opened
	defer func() { _ = ns.Close() }()
	err = within(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		end, err := h.LinkByName(inside)
		if err == nil {
			text += " " + end.Attrs().HardwareAddr.String()
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return text
}

func TestALinkIsMadeAnewAndGoesWithItsNamespace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ns")
	t.Cleanup(func() { // made on a thread in nobody's mount namespace but the process's
		for unix.Unmount(path, unix.MNT_DETACH) == nil {
		}
	})
	apart(t, func() {
		bridge := netip.MustParsePrefix("10.213.0.1/24")
		for range 2 { // a bridge that is there is left as it is
			if err := Up(t.Context(), "tktest1", bridge); err != nil {
				t.Error(err)
				return
			}
		}
		l := Link{Bridge: "tktest1", Name: "tk1", Address: netip.MustParsePrefix("10.213.0.2/24"), Gateway: bridge.Addr()}
		// Who spoke with either end before reaches it at once.
		ends := hardwareOf(t, l.Bridge, "")
		for range 2 { // as after a kill
			if err := Connect(l, path); err != nil {
				t.Error(err)
				return
			}
			now := hardwareOf(t, l.Bridge, path)
			if !strings.HasPrefix(now, ends) {
				t.Errorf("hardware addresses: got %s, want %s still", now, ends)
			}
			ends = now
		}
		if _, err := netlink.LinkByName("tk1"); err != nil {
			t.Error(err)
		}
		l.Bridge = "absent"
		if err := Connect(l, path); err == nil {
			t.Error("a link without a bridge")
		}
		l.Bridge, l.Name = "tktest1", "a-name-that-is-too-long"
		if err := Connect(l, path); err == nil {
			t.Error("a name of 23 bytes")
		}
	})
}
