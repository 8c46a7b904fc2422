package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
)

// What is known against a host's ways of keeping applications apart reaches its operator.
func TestDoctorWarnsOfARuntimeWithKnownWaysOut(t *testing.T) {
	h, _ := once(t, func(*history) {})
	h.m.NewApplications()
	h.m.Options.Apps.Doctor = func(context.Context) []string { return []string{"runc 1.1.5 is old"} }
	if got, want := h.findings(t), "warning applications: runc 1.1.5 is old"; !strings.Contains(got, want) {
		t.Errorf("doctor: got %s, want %s", got, want)
	}
}

// findings returns what doctor says, a line each.
func (h *history) findings(t *testing.T) string {
	t.Helper()
	var got strings.Builder
	h.m.Process(func(a *agent.Agent) {
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbDoctor}, nil)
		if err != nil {
			t.Error(err)
			return
		}
		for _, f := range r.Doctor {
			got.WriteString(f.Level + " " + f.Topic + ": " + f.Text + "\n")
		}
	})
	return got.String()
}

// Which loader it is, why that one, what runs and what is next.
func TestDoctorExplainsTheBootLoader(t *testing.T) {
	h, err := begin(stories[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	const why = "grub: found: /boot/twinkeel"
	h.m.Options.LoaderReason = why
	got := h.findings(t)
	for _, want := range []string{"ok boot loader: " + why + "\n", "ok boot loader: slot a runs and is committed; slot a boots next\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("doctor: got %s, want %s", got, want)
		}
	}
}
