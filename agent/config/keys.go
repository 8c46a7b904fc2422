package config

import (
	"fmt"
	"math"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent/policy"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// setter checks one value as TOML has it and puts it into a Config.
type setter func(c *Config, v any) error

// keys holds every key that has one value; slots.*.* and health.probe have code of
// their own.
var keys = map[string]setter{
	"server":           text(func(c *Config) *string { return &c.Server }, checkServer),
	"channel":          text(func(c *Config) *string { return &c.Channel }, checkName),
	"compatible":       text(func(c *Config) *string { return &c.Compatible }, checkName),
	"state":            text(func(c *Config) *string { return &c.State }, checkPath),
	"root":             text(func(c *Config) *string { return &c.Root }, checkPath),
	"rollout":          text(func(c *Config) *string { return &c.Rollout }, checkRollout),
	"fleet":            text(func(c *Config) *string { return &c.Fleet }, checkName),
	"hostID":           text(func(c *Config) *string { return &c.HostID }, checkHostID),
	"proxy":            text(func(c *Config) *string { return &c.Proxy }, checkProxy),
	"ca":               text(func(c *Config) *string { return &c.CA }, checkPath),
	"fetcher":          text(func(c *Config) *string { return &c.Fetcher }, checkFetcher),
	"socket":           text(func(c *Config) *string { return &c.Socket }, checkPath),
	"labels":           list(setLabels),
	"boot.loader":      text(func(c *Config) *string { return &c.Boot.Loader }, checkName),
	"boot.path":        text(func(c *Config) *string { return &c.Boot.Path }, partitions.CheckSpec),
	"boot.tries":       setTries,
	"boot.reboot":      list(setReboot),
	"poll.interval":    duration(func(c *Config) *time.Duration { return &c.Poll.Interval }, policy.MinInterval, policy.MaxInterval),
	"update.windows":   list(setWindows),
	"update.bandwidth": setBandwidth,
	"health.deadline":  duration(func(c *Config) *time.Duration { return &c.Health.Deadline }, time.Second, 24*time.Hour),
	"apps.path":        text(func(c *Config) *string { return &c.Apps.Path }, checkPath),
	"apps.runtime":     text(func(c *Config) *string { return &c.Apps.Runtime }, checkPath),
	"apps.sandbox":     text(func(c *Config) *string { return &c.Apps.Sandbox }, checkPath),
	"apps.qemu":        text(func(c *Config) *string { return &c.Apps.QEMU }, checkPath),
	"apps.kernel":      text(func(c *Config) *string { return &c.Apps.Kernel }, checkPath),
	"apps.modules":     text(func(c *Config) *string { return &c.Apps.Modules }, checkPath),
	"apps.instance":    text(func(c *Config) *string { return &c.Apps.Instance }, checkName),
	"apps.bridge":      text(func(c *Config) *string { return &c.Apps.Bridge }, checkName),
	"apps.network":     text(func(c *Config) *string { return &c.Apps.Network }, checkPrefix),
	"apps.allow":       list(func(c *Config, l []string) error { return setGrants(&c.Apps.Allow, l) }),
	"apps.deny":        list(func(c *Config, l []string) error { return setGrants(&c.Apps.Deny, l) }),
	"apps.keep":        setKeep,
	"apps.isolation":   text(func(c *Config) *string { return &c.Apps.Isolation }, release.CheckIsolation),
	"health.soak":      duration(func(c *Config) *time.Duration { return &c.Health.Soak }, 0, 24*time.Hour),
}

func text(field func(*Config) *string, check func(string) error) setter {
	return func(c *Config, v any) error {
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("got %s, want a string", kindOf(v))
		}
		if err := check(s); err != nil {
			return err
		}
		*field(c) = s
		return nil
	}
}

func list(set func(*Config, []string) error) setter {
	return func(c *Config, v any) error {
		l, err := stringsOf(v)
		if err != nil {
			return err
		}
		return set(c, l)
	}
}

// stringsOf returns an array of strings.
func stringsOf(v any) ([]string, error) {
	a, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("got %s, want an array of strings", kindOf(v))
	}
	l := make([]string, 0, len(a))
	for i, e := range a {
		s, ok := e.(string)
		if !ok {
			return nil, fmt.Errorf("element %d: got %s, want a string", i, kindOf(e))
		}
		l = append(l, s)
	}
	return l, nil
}

func duration(field func(*Config) *time.Duration, least, most time.Duration) setter {
	return func(c *Config, v any) error {
		d, err := durationOf(v, least, most)
		if err == nil {
			*field(c) = d
		}
		return err
	}
}

func durationOf(v any, least, most time.Duration) (time.Duration, error) {
	s, ok := v.(string)
	if !ok {
		return 0, fmt.Errorf(`got %s, want a duration in quotes, such as "30m"`, kindOf(v))
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf(`got %.40q, want a duration such as "90s", "30m" or "4h"`, s)
	}
	if d < least || d > most {
		return 0, fmt.Errorf("got %s, want %s to %s", d, least, most)
	}
	return d, nil
}

func checkName(s string) error { return release.CheckName("got", s) }

func checkPath(s string) error {
	if !filepath.IsAbs(s) || len(s) > 4096 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("got %.80q, want an absolute path", s)
	}
	return nil
}

func checkServer(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(u.Path, "/") {
		return fmt.Errorf("got %.200q, want an https:// or http:// URL without user, query or final slash", s)
	}
	return nil
}

func checkProxy(s string) error {
	if s == "" || s == "none" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "socks5" || u.Host == "" {
		return fmt.Errorf("got %.200q, want \"none\" or an http://, https:// or socks5:// URL", s)
	}
	return nil
}

func checkRollout(s string) error {
	if s != policy.RolloutDirective && s != policy.RolloutAll {
		return fmt.Errorf("got %.40q, want %q or %q", s, policy.RolloutDirective, policy.RolloutAll)
	}
	return nil
}

func checkHostID(s string) error {
	if len(s) < 1 || len(s) > 128 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fmt.Errorf("got %.80q, want 1 to 128 printable ASCII characters without spaces", s)
	}
	return nil
}

func checkFetcher(s string) error {
	if s == FetcherSpawn {
		return nil
	}
	if err := checkPath(s); err != nil {
		return fmt.Errorf("got %.80q, want %q or the absolute path of a socket", s, FetcherSpawn)
	}
	return nil
}

func setLabels(c *Config, l []string) error {
	if len(l) > 32 {
		return fmt.Errorf("got %d labels, want at most 32", len(l))
	}
	for _, s := range l {
		if err := release.CheckName("got", s); err != nil {
			return err
		}
	}
	c.Labels = l
	return nil
}

func setReboot(c *Config, l []string) error {
	if len(l) == 0 || l[0] == "" || strings.ContainsRune(strings.Join(l, ""), 0) {
		return fmt.Errorf("got %q, want a command and its arguments", l)
	}
	c.Boot.Reboot = l
	return nil
}

func setWindows(c *Config, l []string) error {
	ws, err := policy.ParseWindows(l)
	if err == nil {
		c.Update.Windows = ws
	}
	return err
}

func setTries(c *Config, v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("got %s, want an integer", kindOf(v))
	}
	if n < 1 || n > bootloader.MaxTries {
		return fmt.Errorf("got %d, want 1 to %d", n, bootloader.MaxTries)
	}
	c.Boot.Tries = uint8(n)
	return nil
}

// units of a bandwidth, the longest suffix first.
var units = []struct {
	suffix string
	bytes  float64
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

func setBandwidth(c *Config, v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf(`got %s, want a string such as "2MiB/s"`, kindOf(v))
	}
	if s == "" {
		c.Update.Bandwidth = 0
		return nil
	}
	amount := strings.TrimSuffix(s, "/s")
	for _, u := range units {
		number, ok := strings.CutSuffix(amount, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		// Slower than this, a connection is taken for stalled.
		if err != nil || math.IsNaN(n) || n*u.bytes < 4096 || n*u.bytes > 1<<40 {
			break
		}
		c.Update.Bandwidth = int64(n * u.bytes)
		return nil
	}
	return fmt.Errorf(`got %.40q, want a rate from 4KiB/s to 1024GiB/s such as "2MiB/s"`, s)
}
