package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const card = "eth0"

// network brings up loopback and the card as QEMU's user network has it, and a relay from
// 127.0.0.1:8480 to the update server. Its port on the host is the end of the card's
// hardware address: so one image serves all machines.
func network() error {
	for _, c := range []struct{ name, address, mask string }{{"lo", "127.0.0.1", "255.0.0.0"}, {card, "10.0.2.15", "255.255.255.0"}} {
		if err := up(c.name, c.address, c.mask); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	mac, err := word("/sys/class/net/" + card + "/address")
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(strings.ReplaceAll(mac[len("52:54:00:00:"):], ":", ""), 16, 16)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:8480")
	if err != nil {
		return err
	}
	go relay(l, fmt.Sprintf("10.0.2.2:%d", port))
	return nil
}

func up(name, address, mask string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := setAddress(s, unix.SIOCSIFADDR, name, address); err != nil {
		return err
	}
	if err := setAddress(s, unix.SIOCSIFNETMASK, name, mask); err != nil {
		return err
	}
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}

func setAddress(s int, request uint, name, ip string) error {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := r.SetInet4Addr(net.ParseIP(ip).To4()); err != nil {
		return err
	}
	return unix.IoctlIfreq(s, request, r)
}

func relay(l net.Listener, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			say("relay: %v", err)
			os.Exit(1)
		}
		go func() {
			defer c.Close()
			s, err := net.Dial("tcp", to)
			if err != nil {
				return // which the agent sees as a server that is gone
			}
			defer s.Close()
			go func() {
				_, err := io.Copy(s, c)
				_ = errors.Join(err, s.(*net.TCPConn).CloseWrite()) // the other direction says it
			}()
			_, _ = io.Copy(c, s) // a connection that breaks is closed, no more
		}()
	}
}
