package main

import (
	"fmt"
	"strings"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/agent/control"
)

// showStatus prints a status for people.
func showStatus(p *printer, s *agent.Status) {
	var rows [][]string
	for _, sl := range s.Slots {
		rows = append(rows, slotRow(s, sl))
	}
	if len(rows) > 0 {
		p.table(rows)
	}
	phase := string(s.Phase)
	if t := s.Txn; t != nil {
		phase += fmt.Sprintf(", %s of slot %s", t.Kind, t.Slot)
		if !t.Version.IsZero() {
			phase += " to " + t.Version.String()
		}
	}
	facts := []string{"phase " + phase}
	if s.Channel != "" {
		facts = append(facts, "channel "+s.Channel)
	}
	p.line("%s  epoch %d", strings.Join(facts, "  "), s.Epoch)
	switch {
	case s.LastCheck != nil:
		p.line("last check %s", timeText(*s.LastCheck))
	default:
		p.line("last check none since the agent started")
	}
	if s.Expires != nil {
		p.line("trust good until %s", timeText(*s.Expires))
	}
	if o := s.Offer; o != nil {
		p.line("offer %s  %s to download (%s)", o.Version, bytesText(o.DownloadBytes), o.Route)
	}
	if e := s.Progress; e != nil {
		p.line("now %s", describe(*e))
	}
	for _, r := range s.Reasons {
		p.line("reason  %s  %s", r.Code, r.Text)
	}
	for _, w := range s.Warnings {
		p.line("warning  %s", w)
	}
	for _, d := range s.Denied {
		name := d.Version.String()
		if d.App != "" {
			name = d.App + " " + name
		}
		p.line("denied  %s  %s  %s  %s", name, d.Deployment, d.Code, d.Text)
	}
	if r := s.Rollback; !r.Possible && r.Reason != nil {
		p.line("rollback not possible: %s [%s]", r.Reason.Text, r.Reason.Code)
	} else if r.Possible && r.Reason != nil {
		p.line("rollback needs care: %s [%s]", r.Reason.Text, r.Reason.Code)
	}
}

// slotRow is one slot: name, use, version, state, what it is for.
func slotRow(s *agent.Status, sl agent.SlotStatus) []string {
	use, version, state := "idle", "unknown", "good"
	var roles []string
	if sl.Running {
		use = "running"
	}
	if sl.Version != nil && !sl.Version.IsZero() {
		version = sl.Version.String()
	}
	switch {
	case sl.Priority == 0:
		state = "off"
	case !sl.Successful && sl.Tries == 1:
		state = "trial, 1 try left"
	case !sl.Successful:
		state = fmt.Sprintf("trial, %d tries left", sl.Tries)
	}
	if sl.Name == s.Next {
		roles = append(roles, "next boot")
	}
	if !sl.Running && s.Rollback.Possible {
		roles = append(roles, "rollback target")
	}
	return []string{"slot " + sl.Name, use, version, state, strings.Join(roles, ", ")}
}

// withConfig adds what only the configuration can tell to a doctor's findings.
func (c *cli) withConfig(findings []agent.Finding) ([]agent.Finding, error) {
	cfg, err := config.Load(c.path)
	if err != nil {
		return nil, exitError{control.ExitFailed, err}
	}
	add := func(level, topic, text, hint string) {
		findings = append(findings, agent.Finding{Level: level, Topic: topic, Text: text, Hint: hint})
	}
	if strings.HasPrefix(cfg.Server, "http://") {
		add("note", "server", "updates come over plain http: signatures protect what is installed, but others can see it and hold it up", "use https")
	}
	if cfg.HostID == "" {
		add("warning", "host id", "this host has no id, so its place in every rollout is the same as that of others without one", "set hostID, or write /etc/machine-id")
	}
	return findings, nil
}
