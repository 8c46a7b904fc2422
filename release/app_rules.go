package release

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (r *AppRun) validate() error {
	if len(r.Argv) == 0 || len(r.Argv) > MaxAppWords || len(r.Env) > MaxAppWords {
		return fmt.Errorf("run: got %d arguments and %d variables, want 1 to %d and at most as many", len(r.Argv), len(r.Env), MaxAppWords)
	}
	size := 0
	for _, s := range append(append([]string{}, r.Argv...), r.Env...) {
		size += len(s)
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("run: %.40q holds a zero byte", s)
		}
	}
	if size > MaxAppText {
		return fmt.Errorf("run: arguments and variables: got %d bytes, want at most %d", size, MaxAppText)
	}
	if r.Argv[0] == "" {
		return fmt.Errorf("run: the command is empty")
	}
	last := ""
	for _, e := range r.Env {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name <= last {
			return fmt.Errorf("run: variable %.40q: want NAME=value, sorted by name, each name once", e)
		}
		last = name
	}
	if err := checkPath("run: cwd", r.Cwd); err != nil {
		return err
	}
	if r.UID > 65535 || r.GID > 65535 {
		return fmt.Errorf("run: user: got %d:%d, want at most 65535", r.UID, r.GID)
	}
	if !strings.HasPrefix(r.Signal, "SIG") || len(r.Signal) > 16 {
		return fmt.Errorf("run: signal: got %.20q, want a name such as SIGTERM", r.Signal)
	}
	return within("run: grace", r.Grace, 0, 10*time.Minute)
}

func within(what string, d Duration, least, most time.Duration) error {
	if v := time.Duration(d); v < least || v > most {
		return fmt.Errorf("%s: got %s, want %s to %s", what, v, least, most)
	}
	return nil
}

func (l *AppLimits) validate() error {
	for _, c := range []struct {
		what             string
		got, least, most int64
	}{
		{"memory", l.Memory, 4 << 20, 1 << 40}, {"cpu", int64(l.CPU), 10, 1 << 20}, {"pids", int64(l.Pids), 1, 1 << 20},
		{"files", int64(l.Files), 16, 1 << 20}, {"tmp", l.Tmp, 64 << 10, 1 << 36}, {"log", l.Log, 64 << 10, 1 << 32},
	} {
		if c.got < c.least || c.got > c.most {
			return fmt.Errorf("limits: %s: got %d, want %d to %d", c.what, c.got, c.least, c.most)
		}
	}
	return nil
}

func (n *AppNetwork) validate() error {
	if len(n.Publish) > MaxAppItems || len(n.Sockets) > MaxAppItems {
		return fmt.Errorf("network: got %d ports and %d sockets, want at most %d each", len(n.Publish), len(n.Sockets), MaxAppItems)
	}
	if len(n.Publish) > 0 && n.Mode != "private" {
		return fmt.Errorf("network: ports are published from a private network only, and mode is %s", n.Mode)
	}
	names, taken := map[string]bool{}, map[string]bool{}
	for _, p := range n.Publish {
		if err := CheckName("port name", p.Name); err != nil {
			return err
		}
		if err := oneOf("port "+p.Name+": proto", p.Proto, "tcp udp"); err != nil {
			return err
		}
		at := p.Proto + strconv.Itoa(int(p.Host))
		if p.Host == 0 || p.App == 0 || names[p.Name] || taken[at] {
			return fmt.Errorf("port %s: a number is missing, or its name or host port stands twice", p.Name)
		}
		names[p.Name], taken[at] = true, true
	}
	for _, s := range n.Sockets {
		if err := CheckName("socket name", s.Name); err != nil {
			return err
		}
		at, err := netip.ParseAddrPort(s.Listen)
		if err != nil || at.Port() == 0 || names[s.Name] || taken[s.Listen] {
			return fmt.Errorf("socket %s: listen %.80q is no address:port, or name or address stand twice", s.Name, s.Listen)
		}
		names[s.Name], taken[s.Listen] = true, true
	}
	return nil
}

func (m *AppManifest) validateData() error {
	if len(m.Data) > MaxAppItems {
		return fmt.Errorf("data: got %d volumes, want at most %d", len(m.Data), MaxAppItems)
	}
	for i, v := range m.Data {
		if err := CheckName("volume", v.Name); err != nil {
			return err
		}
		if err := checkPath("volume "+v.Name+": path", v.Path); err != nil {
			return err
		}
		if err := oneOf("volume "+v.Name+": class", v.Class, "versioned shared identity cache"); err != nil {
			return err
		}
		if v.Path == "/" || v.Quota < 64<<10 || v.Quota > MaxImageSize*16 {
			return fmt.Errorf("volume %s: path %s, quota %d: want a directory below / and 64 KiB to 1 TiB", v.Name, v.Path, v.Quota)
		}
		if i > 0 && m.Data[i-1].Name >= v.Name {
			return fmt.Errorf("volume %s: volumes are not sorted by name, or one stands twice", v.Name)
		}
		for _, w := range m.Data[:i] {
			if v.Path == w.Path || strings.HasPrefix(v.Path, w.Path+"/") || strings.HasPrefix(w.Path, v.Path+"/") {
				return fmt.Errorf("volumes %s and %s lie in one another: %s, %s", w.Name, v.Name, w.Path, v.Path)
			}
		}
	}
	return nil
}

func (h *AppHealth) validate() error {
	kinds := 0
	if h.HTTP != "" {
		kinds++
		port, _, ok := strings.Cut(strings.TrimPrefix(h.HTTP, ":"), "/")
		n, err := strconv.ParseUint(port, 10, 16)
		if !ok || err != nil || n == 0 || h.HTTP[0] != ':' || len(h.HTTP) > 255 || strings.ContainsFunc(h.HTTP, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("health: http: got %.80q, want :port/path", h.HTTP)
		}
	}
	if h.TCP != 0 {
		kinds++
	}
	if len(h.Exec) > 0 {
		kinds++
	}
	if kinds > 1 || len(h.Exec) > MaxAppWords {
		return fmt.Errorf("health: got %d kinds of check, want at most one", kinds)
	}
	if h.Failures < 1 || h.Failures > 100 {
		return fmt.Errorf("health: failures: got %d, want 1 to 100", h.Failures)
	}
	for _, err := range []error{
		within("health: start", h.Start, time.Second, time.Hour),
		within("health: interval", h.Interval, 100*time.Millisecond, time.Hour),
		within("health: timeout", h.Timeout, 100*time.Millisecond, 10*time.Minute),
		within("health: probation", h.Probation, 0, 24*time.Hour),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// permissions are the names that hosts know; whatever else an app asks for is refused.
const permissions = "app-socket capability device host-network host-path isolation-userns outbound proc-full publish-low root"

// CheckPermission refuses a permission that hosts do not know.
func CheckPermission(p AppPermission) error {
	if err := oneOf("permission", p.Name, permissions); err != nil {
		return err
	}
	if len(p.Value) > 255 || strings.ContainsFunc(p.Value, control) {
		return fmt.Errorf("permission %s: value %.40q is too long or holds control characters", p.Name, p.Value)
	}
	if p.Name == Outbound {
		_, err := ParseDestination(p.Value)
		return err
	}
	return nil
}

func (m *AppManifest) validateRest() error {
	if m.Isolation.Kernel != "" {
		if m.Isolation.Level != "vm" {
			return fmt.Errorf("isolation: a kernel belongs to level vm, not to %s", m.Isolation.Level)
		}
		if err := checkPath("isolation: kernel", m.Isolation.Kernel); err != nil {
			return err
		}
	}
	if m.Update.DataFormat < 0 || m.Update.DataReads < m.Update.DataFormat {
		return fmt.Errorf("update: it writes data format %d and reads up to %d", m.Update.DataFormat, m.Update.DataReads)
	}
	if len(m.After) > MaxAppItems || len(m.Permissions) > MaxAppItems || len(m.Meta) > MaxAppItems {
		return fmt.Errorf("got %d apps before it, %d permissions, %d notes, want at most %d each", len(m.After), len(m.Permissions), len(m.Meta), MaxAppItems)
	}
	for i, a := range m.After {
		if err := CheckName("after", a); err != nil {
			return err
		}
		if a == m.Name || i > 0 && m.After[i-1] >= a {
			return fmt.Errorf("after %s: names itself, or names are not sorted, or one stands twice", a)
		}
	}
	for i, p := range m.Permissions {
		if err := CheckPermission(p); err != nil {
			return err
		}
		if i > 0 && (m.Permissions[i-1].Name+"\x00"+m.Permissions[i-1].Value) >= p.Name+"\x00"+p.Value {
			return fmt.Errorf("permission %s: permissions are not sorted, or one stands twice", p.Name)
		}
	}
	return nil
}

// isolationLevels are what can stand between an application and the host, the least first.
const isolationLevels = "container sandbox vm"

// CheckIsolation refuses what is no level of isolation: container, sandbox or vm.
func CheckIsolation(level string) error { return oneOf("isolation", level, isolationLevels) }

// IsolatesLess reports whether level got keeps an application less apart than level want; one
// that is not known keeps it apart from nothing.
func IsolatesLess(got, want string) bool {
	levels := strings.Fields(isolationLevels)
	return slices.Index(levels, got) < slices.Index(levels, want)
}
