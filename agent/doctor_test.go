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
	var got []string
	h.m.Process(func(a *agent.Agent) {
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbDoctor}, nil)
		if err != nil {
			t.Error(err)
			return
		}
		for _, f := range r.Doctor {
			got = append(got, f.Level+" "+f.Topic+": "+f.Text)
		}
	})
	if want := "warning applications: runc 1.1.5 is old"; !strings.Contains(strings.Join(got, "\n"), want) {
		t.Errorf("doctor: got %q, want %q", got, want)
	}
}
