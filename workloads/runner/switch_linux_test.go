package runner_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/network"
)

// server is a version of web that serves, published at port 8081 or at a socket there.
func (h *host) server(version, strategy string, health ...string) workloads.Unit {
	h.t.Helper()
	u := h.actor(append([]string{"serve", version}, health...)...)
	v, err := release.ParseVersion(version)
	if err != nil {
		h.t.Fatal(err)
	}
	m := u.Manifest
	m.Version, m.Data, m.Update.Strategy = v, nil, strategy
	m.Health.HTTP = ":8080/health"
	if strategy == "socket" {
		m.Health.HTTP = ":8081/health"
		m.Network.Sockets = []release.AppSocket{{Name: "http", Listen: "127.0.0.1:8081"}}
	} else {
		m.Network = release.AppNetwork{Mode: "private", Publish: []release.AppPort{{Name: "http", Proto: "tcp", Host: 8081, App: 8080}}}
	}
	return u
}

// client asks for an answer every two milliseconds, each time by a new connection.
type client struct {
	stop    chan struct{}
	done    sync.WaitGroup
	answers map[string]int
	failed  []error
	gap     time.Duration // the longest time between two good answers
}

func ask(address string) *client {
	c := &client{stop: make(chan struct{}), answers: map[string]int{}}
	hc := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	c.done.Go(func() {
		var last time.Time
		for {
			select {
			case <-c.stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
			r, err := hc.Get("http://" + address + "/")
			if err != nil {
				c.failed = append(c.failed, err)
				continue
			}
			b, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil || r.StatusCode != http.StatusOK {
				c.failed = append(c.failed, err)
				continue
			}
			c.answers[string(b)]++
			now := time.Now()
			if !last.IsZero() {
				c.gap = max(c.gap, now.Sub(last))
			}
			last = now
		}
	})
	return c
}

func (c *client) end() {
	close(c.stop)
	c.done.Wait()
}

// try waits until the trial of web is healthy, or has failed three times.
func (h *host) try(u workloads.Unit) error {
	h.t.Helper()
	if err := h.Try(h.t.Context(), u); err != nil {
		h.t.Fatal(err)
	}
	if st, err := h.Tried(h.t.Context(), "web"); err != nil || st.Version.String() != u.Manifest.Version.String() {
		h.t.Errorf("tried: got %+v, %v, want version %s", st, err, u.Manifest.Version)
	}
	var err error
	for failures := 0; failures < 3; {
		if err = h.HealthyTry(h.t.Context(), "web"); err == nil {
			return nil
		}
		if strings.Contains(err.Error(), "500") {
			failures++
		}
		time.Sleep(5 * time.Millisecond)
	}
	return err
}

// update leads a client through an unhealthy version and a healthy one.
func (h *host) update(strategy string) (unhealthy, healthy *client) {
	h.t.Helper()
	bad, good := h.server("2", strategy, "bad"), h.server("3", strategy)
	h.start(h.server("1", strategy))
	h.eventually("a healthy start", func() bool { return h.Healthy(h.t.Context(), "web") == nil })
	unhealthy = ask("127.0.0.1:8081")
	time.Sleep(100 * time.Millisecond)
	if err := h.try(bad); err == nil {
		h.t.Error("the bad version passed for healthy")
	}
	var said strings.Builder
	if err := h.TriedLogs(h.t.Context(), "web", 10, &said); err != nil || !strings.Contains(said.String(), "serving 2") || strings.Contains(said.String(), "serving 1") {
		h.t.Errorf("output of the trial: got %q, %v, want what version 2 said and nothing else", said.String(), err)
	}
	if err := h.Drop(h.t.Context(), "web"); err != nil {
		h.t.Fatal(err)
	}
	if st, err := h.Tried(h.t.Context(), "web"); err != nil || !st.App.IsZero() {
		h.t.Errorf("tried after it was dropped: got %+v, %v, want nothing", st, err)
	}
	unhealthy.end()
	healthy = ask("127.0.0.1:8081")
	time.Sleep(100 * time.Millisecond)
	if err := h.try(good); err != nil {
		h.t.Fatal(err)
	}
	if err := h.Switch(h.t.Context(), "web"); err != nil {
		h.t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	healthy.end()
	return unhealthy, healthy
}

func TestAnUpdateLosesNoRequest(t *testing.T) {
	// With a socket, a request that the old version accepted just before its end is that
	// version's to answer, and Go's server drops a connection without a byte.
	for strategy, most := range map[string]int{"parallel": 0, "socket": 2} {
		t.Run(strategy, func(t *testing.T) {
			h := newHost(t, "")
			bad, good := h.update(strategy)
			for name, c := range map[string]*client{"unhealthy": bad, "healthy": good} {
				if len(c.failed) > most {
					t.Errorf("%s: %d requests failed, such as: %v", name, len(c.failed), c.failed[0])
				}
				if c.answers["2"] > 0 {
					t.Errorf("%s: the bad version answered %d clients", name, c.answers["2"])
				}
				t.Logf("%s: answers %v, longest gap %v", name, c.answers, c.gap)
			}
			if good.answers["3"] == 0 {
				t.Error("the good version answered nobody")
			}
			if st := h.status(); st.Version.String() != "3" || !st.Running {
				t.Errorf("got %+v, want version 3", st)
			}
		})
	}
}

func TestAnApplicationReachesNobodyAndIsReachedByItsPortsAlone(t *testing.T) {
	h := newHost(t, "")
	// A service of the host's, on all its addresses.
	l, err := net.Listen("tcp", "0.0.0.0:9999")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	other := h.server("1", "parallel")
	other.Manifest.Name = "other"
	other.Manifest.Network.Publish[0].Host = 8082
	h.start(other)
	h.start(h.server("1", "parallel"))
	h.eventually("a healthy start", func() bool {
		return h.Healthy(t.Context(), "web") == nil && h.Healthy(t.Context(), "other") == nil
	})
	for what, address := range map[string]string{
		"the host": "10.213.0.1:9999", "the other application": "10.213.0.2:8080",
		"its published port": "10.213.0.1:8082", "the cloud's address": "169.254.169.254:80", "the world": "192.0.2.1:80",
	} {
		if out, code := h.exec("/bin/actor", "connect", "tcp", address); code == 0 {
			t.Errorf("%s: got %q", what, out)
		}
	}
	for address, reached := range map[string]bool{"127.0.0.1:8081": true, "127.0.0.1:8082": true, "10.213.0.1:8081": true} {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if (err == nil) != reached {
			t.Errorf("%s: got %v, want reached %t", address, err, reached)
		}
		if err == nil {
			_ = c.Close()
		}
	}
	clash := h.server("1", "parallel")
	clash.Manifest.Name, clash.Manifest.Network.Publish[0].Host = "third", 8082
	for what, err := range map[string]error{
		"start": h.Start(t.Context(), clash), "without a start": h.Free(t.Context(), clash.Manifest, []string{"web"}),
	} {
		if !errors.Is(err, workloads.ErrMissing) || !strings.Contains(err.Error(), "port tcp 8082: app other publishes it") {
			t.Errorf("a port that is taken: %s: got %v, want an error that names its owner", what, err)
		}
	}
	if err := h.Free(t.Context(), clash.Manifest, []string{"other"}); err != nil {
		t.Errorf("a port that its owner leaves: got %v", err)
	}
}

// BenchmarkUpdate leads a client through an unhealthy and a healthy update, each time.
// Run it with -benchtime 7x; the figures are medians.
func BenchmarkUpdate(b *testing.B) {
	for _, strategy := range []string{"parallel", "socket"} {
		b.Run(strategy, func(b *testing.B) {
			h := newHost(b, "")
			var bad, good []time.Duration
			failed := 0
			for b.Loop() {
				u, g := h.update(strategy)
				bad, good = append(bad, u.gap), append(good, g.gap)
				failed += len(u.failed) + len(g.failed)
				if err := h.Stop(b.Context(), "web"); err != nil {
					b.Fatal(err)
				}
			}
			slices.Sort(bad)
			slices.Sort(good)
			b.ReportMetric(float64(failed), "failed")
			b.ReportMetric(float64(bad[len(bad)/2].Microseconds())/1000, "unhealthy-gap-ms")
			b.ReportMetric(float64(good[len(good)/2].Microseconds())/1000, "healthy-gap-ms")
		})
	}
}

// world makes a machine outside, at an address, that listens at ports.
func world(t *testing.T, dir string, address netip.Prefix, ports ...int) {
	t.Helper()
	bridge := netip.PrefixFrom(address.Masked().Addr().Next(), address.Bits())
	if err := network.Up(t.Context(), "tkworld0", bridge); err != nil {
		t.Fatal(err)
	}
	name := "tkw" + strconv.Itoa(int(address.Addr().As4()[3]))
	path := filepath.Join(dir, name)
	if err := network.Connect(network.Link{Bridge: "tkworld0", Name: name, Address: address, Gateway: bridge.Addr()}, path); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock it
		f, err := os.Open(path)
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		for _, p := range ports {
			if err != nil {
				break
			}
			var l net.Listener
			if l, err = net.Listen("tcp4", ":"+strconv.Itoa(p)); err == nil {
				t.Cleanup(func() { _ = l.Close() })
			}
		}
		done <- errors.Join(err, f.Close(), unix.Unmount(path, unix.MNT_DETACH))
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAnApplicationGoesOutOnlyWhereItMay(t *testing.T) {
	h := newHost(t, "")
	world(t, h.dir, netip.MustParsePrefix("198.51.100.2/24"), 443, 80)
	world(t, h.dir, netip.MustParsePrefix("198.51.100.3/24"), 443, 80)
	u := h.server("1", "parallel")
	for _, value := range []string{"198.51.100.2:443", "198.51.100.3/32:80"} {
		u.Manifest.Permissions = append(u.Manifest.Permissions, release.AppPermission{Name: release.Outbound, Value: value})
	}
	u.Grants = u.Manifest.Permissions
	h.start(u)
	connect := func(address string) bool {
		_, code := h.exec("/bin/actor", "connect", "tcp", address)
		return code == 0
	}
	reach := func(there, nowhere []string) {
		t.Helper()
		for _, address := range there { // links that have just come up may lose what is sent first
			h.eventually("a connection to "+address, func() bool { return connect(address) })
		}
		for _, address := range nowhere {
			if connect(address) {
				t.Errorf("%s is reached", address)
			}
		}
	}
	reach([]string{"198.51.100.2:443", "198.51.100.3:80"}, []string{"198.51.100.2:80", "198.51.100.3:443", "198.51.100.1:443", "169.254.169.254:80"})
	if err := h.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	u.Manifest.Permissions = []release.AppPermission{{Name: release.Outbound}}
	u.Grants = u.Manifest.Permissions
	h.start(u)
	reach([]string{"198.51.100.2:80", "198.51.100.3:443"}, []string{"169.254.169.254:80"})
}
