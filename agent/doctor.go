package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/twinkeel/twinkeel/partitions"
)

// The levels of a Finding.
const (
	levelOK      = "ok"
	levelNote    = "note"
	levelWarning = "warning"
	levelError   = "error"
)

// doctor examines the host without changing it.
func (a *Agent) doctor(ctx context.Context) []Finding {
	var list []Finding
	add := func(level, topic, hint, format string, args ...any) {
		list = append(list, Finding{Level: level, Topic: topic, Text: fmt.Sprintf(format, args...), Hint: hint})
	}
	if a.o.LoaderReason != "" {
		add(levelOK, "boot loader", "", "%s", a.o.LoaderReason)
	}
	m, err := a.machine(ctx)
	if err != nil {
		add(levelError, "boot loader", "check [boot] in the configuration", "%v", err)
	} else {
		a.doctorLoader(m, add)
		a.doctorJournal(m, add)
	}
	if a.st.dir == nil {
		add(levelError, "state", "mount the data partition; until then nothing is installed, and a trial goes back", "%v", a.st.err)
	} else {
		add(levelOK, "state", "", "state directory is there, format %d", a.st.reads)
	}
	if text := a.damage(); text != "" {
		add(levelError, "root", "the next poll writes the other slot first; if it stays, reinstall", "%s", text)
	}
	for _, slot := range partitions.Slots {
		a.doctorSlot(slot, add)
	}
	a.doctorTrust(add)
	if a.o.Apps != nil && a.o.Apps.Doctor != nil {
		for _, text := range a.o.Apps.Doctor(ctx) {
			add(levelWarning, "applications", "", "%s", text)
		}
	}
	if a.o.Apps != nil {
		if d, err := a.running(m); err == nil && d != nil {
			a.doctorApps(ctx, d, add)
		}
	}
	if len(a.o.Probes) == 0 {
		add(levelWarning, "health", "add a [[health.probe]]: without one every trial that boots is committed", "no health probe is configured")
	} else {
		for _, p := range a.o.Probes {
			if err := a.o.Health.Check(ctx, p); err != nil {
				level := levelNote
				if p.Required {
					level = levelWarning
				}
				add(level, "health", "a probe that fails before a trial cannot condemn it", "probe %s fails now: %v", p.Name, err)
			}
		}
	}
	return list
}

type addFinding func(level, topic, hint, format string, args ...any)

func (a *Agent) doctorLoader(m machine, add addFinding) {
	r := m.record.Slots[m.boot.Slot]
	switch next, ok := m.record.Next(); {
	case !ok:
		add(levelError, "boot loader", "run `twinkeel init` if this is the factory system", "no slot can boot by the boot record")
	case !r.Successful:
		add(levelNote, "boot loader", "", "slot %s runs on trial", m.boot.Slot)
	default:
		add(levelOK, "boot loader", "", "slot %s runs and is committed; slot %s boots next", m.boot.Slot, next)
	}
	if !m.boot.Firmware {
		add(levelNote, "boot loader", "a full reboot proves the slot", "this boot did not go through the firmware")
	}
	if a.unproven() {
		add(levelWarning, "boot loader", "reboot through the firmware", "the running slot was committed without a firmware boot: updates wait")
	}
	if _, d, reason, err := a.fallback(m); err != nil {
		add(levelError, "rollback", "", "%v", err)
	} else if reason != nil {
		add(levelNote, "rollback", "", "%s", reason.Text)
	} else {
		add(levelOK, "rollback", "", "`twinkeel rollback` goes to %s in slot %s", d.Version, m.boot.Slot.Other())
	}
}

func (a *Agent) doctorJournal(m machine, add addFinding) {
	if a.st.dir == nil {
		return
	}
	t, err := a.journal(m)
	switch {
	case err != nil:
		add(levelError, "journal", "", "%v", err)
	case t.Phase != Idle:
		add(levelNote, "journal", "", "transaction %d (%s of slot %s) is %s", t.Seq, t.Kind, t.Slot, t.Phase)
	default:
		add(levelOK, "journal", "", "nothing is under way")
	}
}

// doctorSlot opens every partition of a slot.
func (a *Agent) doctorSlot(slot partitions.Slot, add addFinding) {
	for _, name := range a.o.Images {
		dev, err := a.o.Slots.OpenRead(slot, name)
		if err != nil {
			add(levelError, "slot "+slot.String(), "check [slots."+slot.String()+"] in the configuration", "%s: %v", name, err)
			continue
		}
		add(levelOK, "slot "+slot.String(), "", "%s has %d bytes", name, dev.Size())
		dev.Close()
	}
}

func (a *Agent) doctorTrust(add addFinding) {
	if len(a.o.Factory) == 0 {
		add(levelError, "trust", "put the publisher's root.json where `root` in the configuration says", "there is no factory root")
		return
	}
	a.mem.Lock()
	s, behind := a.last.trust, a.last.clockBehind
	a.mem.Unlock()
	if s.Problem != "" {
		add(levelError, "trust", "`twinkeel trust reset` starts anew from the factory root", "%s", s.Problem)
		return
	}
	if len(s.Roles) == 0 {
		add(levelNote, "trust", "`twinkeel check` reads it", "trust metadata was not read since this process began")
		return
	}
	now := a.o.Clock.Now()
	for _, r := range s.Roles {
		if now.Before(r.Expires) {
			add(levelOK, "trust", "", "%s version %d is good until %s", r.Name, r.Version, r.Expires.Format(time.RFC3339))
		}
	}
	if s.Log.Size > 0 {
		add(levelOK, "trust", "", "the release log %s had %d entries when it was read last", s.Log.Origin, s.Log.Size)
	}
	for _, text := range trustWarnings(s, now) {
		add(levelWarning, "trust", "tell the publisher; trust/evidence in the state directory holds what was shown as the release log", "%s", text)
	}
	if behind {
		add(levelWarning, "clock", "set the clock", "the clock is before the newest time that signed metadata proves")
	}
}

// verify reads slots back: one, or both.
func (a *Agent) verify(ctx context.Context, which string) ([]VerifyReport, error) {
	slots := partitions.Slots[:]
	if which != "" {
		s, err := partitions.ParseSlot(which)
		if err != nil {
			return nil, &Refusal{Reason{CodeUsage, err.Error()}, err}
		}
		slots = slots[s : s+1]
	}
	var reports []VerifyReport
	for _, slot := range slots {
		p, err := a.st.pointer(slot)
		if err != nil {
			return nil, err
		}
		d, err := a.st.deployment(p.Current)
		if err != nil {
			return nil, err
		}
		if d == nil {
			if which != "" {
				return nil, &Refusal{Reason{CodeSlot, fmt.Sprintf("slot %s holds no known release", slot)}, nil}
			}
			continue
		}
		r, err := a.verifySlot(ctx, slot, d)
		if err != nil {
			return nil, err
		}
		reports = append(reports, r...)
	}
	return reports, nil
}
