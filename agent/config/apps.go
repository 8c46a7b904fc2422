package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/release"
)

// maxApps bounds the number of applications of a host, maxKeep that of the parked
// generations of each.
const (
	maxApps = 64
	maxKeep = 64
)

// apps applies the [[app]] tables of one file.
func (p *parser) apps(v any) {
	entries, ok := v.([]any)
	if !ok {
		p.fail("app", fmt.Sprintf("got %s, want [[app]] tables", kindOf(v)))
		return
	}
	for i, e := range entries {
		key := fmt.Sprintf("app[%d]", i)
		t, ok := e.(map[string]any)
		if !ok {
			p.fail(key, fmt.Sprintf("got %s, want a table", kindOf(e)))
			continue
		}
		before := len(p.problems)
		app := p.app(key, t)
		if len(p.problems) > before {
			continue
		}
		for what, s := range map[string]string{"name": app.Name, "publisher": app.Publisher} {
			if err := release.CheckName(what, s); err != nil {
				p.fail(key, err.Error())
			}
		}
		id := "app " + app.Name
		if at, ok := p.set[id]; ok && at.order == p.order {
			p.fail(key, fmt.Sprintf("an app called %q stands in this file already", app.Name))
			continue
		}
		p.set[id] = p.place(key)
		wanted := &p.config.Apps.Wanted
		if at := slices.IndexFunc(*wanted, func(o App) bool { return o.Name == app.Name }); at >= 0 {
			(*wanted)[at] = app
			continue
		}
		*wanted = append(*wanted, app)
	}
	if n := len(p.config.Apps.Wanted); n > maxApps {
		p.fail("app", fmt.Sprintf("got %d apps, want at most %d", n, maxApps))
	}
}

func (p *parser) app(key string, t map[string]any) App {
	var app App
	texts := map[string]*string{"name": &app.Name, "publisher": &app.Publisher}
	flags := map[string]*bool{"hold": &app.Hold, "bundled": &app.Bundled}
	lists := map[string]*[]string{"allow": &app.Allow, "deny": &app.Deny}
	for _, name := range sortedKeys(t) {
		v := t[name]
		var err error
		var ok bool
		switch name {
		case "name", "publisher":
			if *texts[name], ok = v.(string); !ok {
				err = fmt.Errorf("got %s, want a string", kindOf(v))
			}
		case "version":
			s, _ := v.(string) // what is no string is no version either
			app.Version, err = release.ParseVersion(s)
		case "hold", "bundled":
			if *flags[name], ok = v.(bool); !ok {
				err = fmt.Errorf("got %s, want true or false", kindOf(v))
			}
		case "allow", "deny":
			var l []string
			if l, err = stringsOf(v); err == nil {
				err = setGrants(lists[name], l)
			}
		default:
			err = fmt.Errorf("unknown key; want name, publisher, version, hold, bundled, allow or deny")
		}
		if err != nil {
			p.fail(key+"."+name, err.Error())
		}
	}
	return app
}

// setGrants takes permissions, as name or name=value. An unknown name is refused: it
// would deny nothing.
func setGrants(to *[]string, l []string) error {
	for _, s := range l {
		name, value, _ := strings.Cut(s, "=")
		if err := release.CheckPermission(release.AppPermission{Name: name, Value: value}); err != nil {
			return err
		}
	}
	*to = l
	return nil
}

func setKeep(c *Config, v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("got %s, want an integer", kindOf(v))
	}
	if n < 1 || n > maxKeep {
		return fmt.Errorf("got %d, want 1 to %d", n, maxKeep)
	}
	c.Apps.Keep = int(n)
	return nil
}

func checkPrefix(s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || p.Bits() > 24 || p.Masked() != p {
		return fmt.Errorf("got %.40q, want an IPv4 network of at least 256 addresses, such as 10.89.0.0/16", s)
	}
	return nil
}
