package config

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent/health"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// partition applies slots.SLOT.IMAGE.
func (p *parser) partition(key, slot, image string, v any) {
	s, ok := v.(string)
	if !ok {
		p.fail(key, fmt.Sprintf("got %s, want a string", kindOf(v)))
		return
	}
	if err := release.CheckName("image name", image); err != nil {
		p.fail(key, err.Error())
		return
	}
	if err := partitions.CheckSpec(s); err != nil {
		p.fail(key, err.Error())
		return
	}
	i := partitions.A
	if slot == "b" {
		i = partitions.B
	}
	p.config.Slots[i][image] = s
}

// maxProbes bounds the number of probes of a host.
const maxProbes = 64

// probes applies the [[health.probe]] tables of one file.
func (p *parser) probes(v any) {
	entries, ok := v.([]any)
	if !ok {
		p.fail("health.probe", fmt.Sprintf("got %s, want [[health.probe]] tables", kindOf(v)))
		return
	}
	for i, e := range entries {
		key := fmt.Sprintf("health.probe[%d]", i)
		t, ok := e.(map[string]any)
		if !ok {
			p.fail(key, fmt.Sprintf("got %s, want a table", kindOf(e)))
			continue
		}
		before := len(p.problems)
		probe := p.probe(key, t)
		if len(p.problems) > before {
			continue
		}
		if err := probe.Validate(); err != nil {
			p.fail(key, err.Error())
			continue
		}
		id := "health.probe " + probe.Name
		if at, ok := p.set[id]; ok && at.order == p.order {
			p.fail(key, fmt.Sprintf("a probe called %q stands in this file already", probe.Name))
			continue
		}
		p.set[id] = p.place(key)
		probes := &p.config.Health.Probes
		if at := slices.IndexFunc(*probes, func(o health.Probe) bool { return o.Name == probe.Name }); at >= 0 {
			(*probes)[at] = probe
			continue
		}
		*probes = append(*probes, probe)
	}
	if n := len(p.config.Health.Probes); n > maxProbes {
		p.fail("health.probe", fmt.Sprintf("got %d probes, want at most %d", n, maxProbes))
	}
}

func (p *parser) probe(key string, t map[string]any) health.Probe {
	probe := health.Probe{Required: true}
	fields := map[string]*string{"name": &probe.Name, "unit": &probe.Unit, "http": &probe.HTTP, "tcp": &probe.TCP}
	for _, name := range sortedKeys(t) {
		v := t[name]
		var err error
		switch name {
		case "name", "unit", "http", "tcp":
			var ok bool
			if *fields[name], ok = v.(string); !ok {
				err = fmt.Errorf("got %s, want a string", kindOf(v))
			}
		case "command":
			probe.Command, err = stringsOf(v)
		case "required":
			var ok bool
			if probe.Required, ok = v.(bool); !ok {
				err = fmt.Errorf("got %s, want true or false", kindOf(v))
			}
		case "timeout":
			probe.Timeout, err = durationOf(v, 100*time.Millisecond, health.MaxTimeout)
		default:
			err = fmt.Errorf("unknown key; want name, required, timeout and one of unit, command, http, tcp")
		}
		if err != nil {
			p.fail(key+"."+name, err.Error())
		}
	}
	return probe
}

// whole checks what no single key can be blamed for.
func (p *parser) whole() {
	c := p.config
	for _, required := range []struct{ key, value string }{
		{"server", c.Server}, {"channel", c.Channel}, {"compatible", c.Compatible},
	} {
		if required.key == "compatible" && !c.HasSlots() && len(c.Apps.Wanted) > 0 {
			continue // there is no machine that a release could be made for
		}
		if required.value == "" {
			p.failSet(required.key, "is missing")
		}
	}
	used := map[string]string{}
	for _, slot := range partitions.Slots {
		for _, image := range sortedKeys(c.Slots[slot]) {
			key := "slots." + slot.String() + "." + image
			if _, ok := c.Slots[slot.Other()][image]; !ok {
				p.failSet(key, fmt.Sprintf("slot %s has no such image", slot.Other()))
			}
			spec := c.Slots[slot][image]
			if other, taken := used[spec]; taken {
				p.failSet(key, fmt.Sprintf("%s is the same partition as %s", spec, other))
			}
			used[spec] = key
		}
		if _, ok := c.Slots[slot]["root"]; !ok && (c.HasSlots() || len(c.Apps.Wanted) == 0) {
			p.failSet("slots."+slot.String()+".root", "is missing")
		}
	}
	for i := range c.Health.Probes {
		probe := &c.Health.Probes[i]
		if probe.Timeout == 0 {
			probe.Timeout = min(health.DefaultTimeout, c.Health.Deadline)
		}
		if probe.Timeout > c.Health.Deadline {
			p.failSet("health.probe "+probe.Name, fmt.Sprintf("timeout: got %s, want at most the deadline of %s", probe.Timeout, c.Health.Deadline))
		}
	}
}

// hostIDSpace makes a host's id another one than those that other programs derive
// from the same machine id, which is confidential.
const hostIDSpace = "twinkeel host id 1"

// machineHostID derives the host's id from the machine id.
func machineHostID(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	id, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(id) != 16 {
		return "", fmt.Errorf("%s: got %.40q, want 32 hexadecimal digits", path, b)
	}
	h := hmac.New(sha256.New, id)
	h.Write([]byte(hostIDSpace))
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
