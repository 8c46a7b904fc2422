package agent_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
)

// A host that has lost its trust floors refuses updates and says so, until an
// administrator resets trust; then it starts from the factory root and goes on.
func TestTrustResetBringsAHostWithoutFloorsBack(t *testing.T) {
	h, _ := once(t, func(*history) {})
	dir, err := h.m.State.Sub("trust")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"floor.0", "floor.1"} {
		if err := dir.Replace(name, []byte("garbage")); err != nil {
			t.Fatal(err)
		}
	}
	var fixes []string
	h.m.Process(func(a *agent.Agent) {
		if err := a.Once(context.Background()); agent.CodeOf(err) != agent.CodeUntrusted {
			t.Errorf("without floors: got %v, want %s", err, agent.CodeUntrusted)
		}
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbDoctor}, nil)
		if err != nil {
			t.Error(err)
			return
		}
		for _, f := range r.Doctor {
			fixes = append(fixes, f.Hint)
		}
	})
	if !strings.Contains(strings.Join(fixes, "\n"), "trust reset") {
		t.Errorf("doctor does not name the way out: %q", fixes)
	}
	h.m.Process(func(a *agent.Agent) {
		_, resetErr := a.Do(context.Background(), agent.Request{Verb: agent.VerbTrustReset}, nil)
		if err := errors.Join(resetErr, a.Once(context.Background())); err != nil {
			t.Errorf("after a reset: %v", err)
		}
	})
	if got := h.reasons(t); strings.Contains(got, agent.CodeUntrusted) {
		t.Errorf("reasons after a reset: %q", got)
	}
}
