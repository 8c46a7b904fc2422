package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/control"
	"github.com/twinkeel/twinkeel/internal/vm"
)

// bootLimit is how long a machine may say nothing of what is waited for. Idle, it boots in
// five seconds; the longest that it waits by itself is the dead-man's deadline.
const bootLimit = 10 * time.Minute

// host is one machine under test.
type host struct {
	name  string
	kit   *kit
	site  *site
	l     loader
	dir   string
	c     vm.Config
	m     *vm.Machine
	relay *relay
	ctx   context.Context
	boots int
	cpu   time.Duration
	notes []string

	failures string    // where it is kept if its case fails
	landed   []landing // its cuts

	watch   stopwatch
	faults  int // of which the way back was to be measured
	outages []outage

	tracing bool     // every read and write of the disk is written down
	traces  []string // where, by boot

	watched *watched      // nil: nobody looks at the boot record
	ahead   time.Duration // of this clock, what the machine's shows when it is powered on
	kept    int           // boots that were written down before the console's log begins
}

// newHost makes a machine with a copy of the disk that a loader's cases begin with.
func (e *engine) newHost(name string, l loader) (*host, error) {
	h := &host{name: name, kit: e.kit, site: e.site, l: l, dir: filepath.Join(e.kit.work, "cases", slug(name)), ctx: e.kit.ctx, failures: e.failures()}
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if h.relay, err = newRelay(e.site.address); err != nil {
		return nil, err
	}
	h.c = vm.Config{Disk: filepath.Join(h.dir, "disk.img"), Log: filepath.Join(h.dir, "console.log"), Port: h.relay.port()}
	h.c.Seen = h.watch.see
	if l.uefi {
		h.c.Vars = filepath.Join(h.dir, "vars.fd")
	}
	if l.variant == keepsMemory.variant {
		h.c.Memory = filepath.Join(h.dir, "memory")
	}
	h.c.Arm = l.variant == arm64.variant
	if l.variant == largeSectors.variant {
		h.c.Sector = sectorSize
	}
	h.c.Watchdog = l.variant == hasWatchdog.variant
	e.mu.Lock()
	disk := e.disks[l.id()]
	e.mu.Unlock()
	return h, vm.Clone(disk, h.c.Disk)
}

// slug is a name as a file's: QEMU's options, among others, are separated by commas.
func slug(name string) string { return strings.NewReplacer(" ", "-", ",", "", "/", "-").Replace(name) }

// close cuts the power, and removes what the machine was if it is not to be kept.
func (h *host) close(keep bool) error {
	h.off()
	h.relay.close()
	if keep {
		return os.Rename(h.dir, filepath.Join(h.failures, filepath.Base(h.dir)))
	}
	return os.RemoveAll(h.dir)
}

// on powers the machine on, if it is not.
func (h *host) on() (err error) {
	if h.m != nil {
		return nil
	}
	if h.watched != nil {
		if err := h.counted(); err != nil {
			return err
		}
	}
	if h.ahead > 0 {
		h.c.Clock = time.Now().UTC().Add(h.ahead).Format("2006-01-02T15:04:05")
	}
	h.boots++
	if h.tracing {
		h.c.Trace = filepath.Join(h.dir, fmt.Sprintf("trace-%d", len(h.traces)))
		h.traces = append(h.traces, h.c.Trace)
	}
	h.m, err = vm.Start(h.ctx, h.c)
	return err
}

// off cuts the power.
func (h *host) off() {
	if h.m != nil {
		h.cpu += h.m.Stop()
		h.m = nil
	}
}

// see waits for one of the words on the console. If the machine ends before, it is off.
func (h *host) see(words ...string) (string, error) { return h.seeFor(bootLimit, words...) }

func (h *host) seeFor(limit time.Duration, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(h.ctx, limit)
	defer cancel()
	line, err := h.m.Await(ctx, words...)
	if errors.Is(err, vm.ErrEnded) {
		h.off()
	}
	return line, err
}

// up is what a slot says of itself when it has booted.
type up map[string]string

func parseUp(line string) up {
	u := up{}
	for _, w := range strings.Fields(line) {
		if k, v, ok := strings.Cut(w, "="); ok {
			u[k] = v
		}
	}
	return u
}

// boot powers on until a slot says that it is up, at most as often as is given. What came up
// has to be what the loader was to start.
func (h *host) boot(within int) (up, error) {
	for n := 0; ; n++ {
		if h.m == nil && n == within {
			return nil, fmt.Errorf("no slot came up within %d boots", within)
		}
		if err := h.on(); err != nil {
			return nil, err
		}
		line, err := h.see("VM up ")
		if err == nil {
			u := parseUp(line)
			return u, h.started(u)
		}
		if !errors.Is(err, vm.ErrEnded) {
			return nil, err
		}
	}
}

// run has the slot run a command, and returns its output.
func (h *host) run(words ...string) (code int, out string, err error) {
	return h.order("run " + strings.Join(words, " "))
}

// order gives one that ends as a command does.
func (h *host) order(line string) (code int, out string, err error) {
	if h.m.Say(line) != nil {
		_, err := h.see("no such line") // nobody listens: the machine has ended
		return 0, "", err
	}
	for {
		line, err := h.see("OUT ", "VM ran ", "VM reboot asked for")
		if err != nil {
			return 0, out, err
		}
		if s, ok := strings.CutPrefix(line, "OUT "); ok {
			out += s + "\n"
			continue
		}
		if s, ok := strings.CutPrefix(line, "VM ran "); ok {
			code, err = strconv.Atoi(s)
			return code, out, err
		}
		// The machine goes down under the command.
		if _, err := h.see("no such line"); !errors.Is(err, vm.ErrEnded) {
			return 0, out, err
		}
		return 0, out, nil
	}
}

// operator runs twinkeel, which has to end with code; if the machine goes down meanwhile,
// that is 0. While the daemon is busy, as it can be for long on a slow machine, it is asked again.
func (h *host) operator(code int, args ...string) (string, error) {
	got, out, err := h.run(append([]string{"/usr/bin/twinkeel"}, args...)...)
	for again := 0; again < 10 && err == nil && got == control.ExitBusy; again++ {
		got, out, err = h.run(append([]string{"/usr/bin/twinkeel"}, args...)...)
	}
	if err != nil && !errors.Is(err, vm.ErrEnded) {
		return out, err
	}
	if got != code {
		return out, fmt.Errorf("twinkeel %s: got exit code %d, want %d: %s", strings.Join(args, " "), got, code, out)
	}
	return out, nil
}

// refused runs twinkeel, which has to refuse what it is asked with a reason code, and to end with
// the exit code that belongs to it.
func (h *host) refused(reason string, args ...string) error {
	out, err := h.operator(control.ExitOf(reason), args...)
	if err == nil && !strings.Contains(out, "["+reason+"]") {
		err = fmt.Errorf("twinkeel %s: got %s, want a refusal for %s", strings.Join(args, " "), out, reason)
	}
	return err
}

// said reports whether a text was ever on the console.
func (h *host) said(text string) (bool, error) {
	log, err := os.ReadFile(h.c.Log)
	return strings.Contains(string(log), text), err
}

// status asks the agent. It can be busy, or not there yet.
func (h *host) status() (s agent.Status, err error) {
	code, out, err := h.run("/usr/bin/twinkeel", "--json", "status")
	if err != nil {
		return s, err
	}
	if code != 0 {
		return s, fmt.Errorf("status: exit code %d: %s", code, out)
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// ends checks that the machine comes to rest, within a number of boots, running a slot
// with a version that is committed, and nothing but that.
func (h *host) ends(slot, version string, within int) error {
	for began := h.boots; ; {
		u, err := h.boot(within - (h.boots - began))
		if err != nil {
			return err
		}
		s, err := h.settle(u)
		if errors.Is(err, vm.ErrEnded) {
			continue
		}
		if err != nil {
			return err
		}
		if u["slot"] != slot || u["release"] != version || s.Running != slot || s.Next != slot {
			return fmt.Errorf("ends on slot %s, release %s, next %s; want slot %s, release %s", u["slot"], u["release"], s.Next, slot, version)
		}
		if u["id"] != machineID {
			return fmt.Errorf("machine id: got %s", u["id"])
		}
		if u["pstore"] != "0" {
			return fmt.Errorf("pstore: %s logs are still there", u["pstore"])
		}
		return h.holds(slot, version)
	}
}

// rests waits until nothing is under way, whichever slot that is in. The first slot that
// comes up is checked.
func (h *host) rests(within int, check func(up) error) (s agent.Status, err error) {
	for began := h.boots; ; {
		u, err := h.boot(within - (h.boots - began))
		if err == nil && check != nil {
			err, check = check(u), nil
		}
		if err != nil {
			return s, err
		}
		if s, err = h.settle(u); !errors.Is(err, vm.ErrEnded) {
			return s, err
		}
	}
}

// settle waits until nothing is under way in this boot, or the machine ends.
func (h *host) settle(u up) (s agent.Status, err error) {
	if u["trial"] == "1" {
		if _, err := h.see("result=committed"); err != nil {
			return s, err
		}
	} else if _, err := h.see("msg=started"); err != nil {
		return s, err
	}
	for range 60 {
		if s, err = h.status(); errors.Is(err, vm.ErrEnded) || h.ctx.Err() != nil {
			return s, err
		}
		if err == nil && (s.Phase == agent.Idle || s.Phase == agent.Staged && hasReason(s, agent.CodeRetry)) {
			return s, nil
		}
		time.Sleep(2 * time.Second)
	}
	return s, fmt.Errorf("it does not come to rest: phase %s, %v", s.Phase, err)
}

func hasReason(s agent.Status, code string) bool {
	return slices.ContainsFunc(s.Reasons, func(r agent.Reason) bool { return r.Code == code })
}

// note adds to the report.
func (h *host) note(format string, args ...any) {
	h.notes = append(h.notes, fmt.Sprintf(format, args...))
}
