package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/signingtest"
)

// Why a release was taken back is signed, and reaches the operator: for the one that runs,
// and for the one that the directive still names.
func TestReasonOfAWithdrawalIsShown(t *testing.T) {
	h, err := begin(stories[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	here, offered := h.w.first.Manifest.Version, h.new.Manifest.Version
	repo := signingtest.New(noon, sim.Channel)
	repo.Edit("os-"+sim.Channel, func(d signingtest.Doc) {
		d[signing.WithdrawnField] = signingtest.Doc{
			release.TargetName(sim.Channel, sim.Compatible, here):    signingtest.Doc{"reason": "forgets time", "time": "2026-11-21T09:00:00Z"},
			release.TargetName(sim.Channel, sim.Compatible, offered): signingtest.Doc{"reason": "eats disks", "time": "2026-11-21T10:00:00Z"}}
	})
	d, err := (&release.Directive{Format: release.DirectiveFormat, Channel: sim.Channel, Version: offered, Permille: 1000, Salt: "salt"}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	repo.SetTarget(release.DirectiveName(sim.Channel), d)
	repo.Publish("os-"+sim.Channel, "fleet-"+sim.Channel)
	h.m.State.Wipe()
	h.m.Options.Factory = repo.RootBytes(1)
	h.m.Net.Serve(repo.Files())
	manifest, err := h.w.first.Manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var s *agent.Status
	h.m.Process(func(a *agent.Agent) {
		if _, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbInit, Factory: manifest}, nil); err != nil {
			t.Error(err)
		}
		_ = a.Once(context.Background())
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbStatus}, nil)
		if err != nil {
			t.Error(err)
			return
		}
		s = r.Status
	})
	if s == nil {
		t.Fatal("no status")
	}
	var reasons []string
	for _, r := range s.Reasons {
		reasons = append(reasons, r.Text)
	}
	if got := strings.Join(reasons, "\n"); !strings.Contains(got, "release "+offered.String()+" was withdrawn on 2026-11-21: eats disks") {
		t.Errorf("reasons: got %q", got)
	}
	if got := strings.Join(s.Warnings, "\n"); !strings.Contains(got, "release "+here.String()+" was withdrawn on 2026-11-21: forgets time; it runs here") {
		t.Errorf("warnings: got %q", got)
	}
}
