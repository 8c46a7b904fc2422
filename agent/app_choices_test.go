package agent_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// A bad sector must not keep every application of a host from starting, nor let loose what
// an operator held.
func TestOneDamagedCopyOfTheChoicesChangesNothing(t *testing.T) {
	m := appMachine(t, 1, appV1)
	if err := changeWeb(t, m, agent.Request{App: &agent.AppRequest{Do: agent.AppHold}}); err != nil {
		t.Fatal(err)
	}
	m.Net.Serve(apps().files[appV2])
	dir := m.State.Below("apps")
	copies := []string{"choices.json", "choices.copy.json"}
	for _, name := range copies {
		for _, rot := range [][]byte{[]byte("rot"), nil} {
			dir.Damage(name, rot)
			m.Restart(sim.Rebooted)
			m.Process(sim.Once)
			wantApp(t, m, "1") // started, and not updated
			if a, b := dir.Bytes(copies[0]), dir.Bytes(copies[1]); !bytes.Equal(a, b) || !bytes.Contains(a, []byte("hold")) {
				t.Errorf("%s damaged: got %q and %q, want both whole again", name, a, b)
			}
		}
	}
	for _, name := range copies {
		dir.Damage(name, []byte("rot"))
	}
	m.Restart(sim.Rebooted)
	m.Process(func(a *agent.Agent) {
		if err := a.Once(context.Background()); err == nil {
			t.Error("both damaged: got no error: what was decided is guessed")
		}
	})
}

// The OS waits for what applications have begun, and what they begin waits for the OS: one
// of both has to give way.
func TestAnUpdateThatOnlyFetchesGivesWayToAStagedOS(t *testing.T) {
	m := appMachine(t, 1, appV1)
	m.Net.Serve(apps().files[appOS2])
	// Both are killed in the middle of what they write.
	for n := 20; m.Journal().Phase != agent.Staging; n += 4 {
		m.CutAt(n, sim.Killed)
		m.Process(sim.Once)
	}
	for n := 8; !bytes.Contains(m.State.Below("apps").Bytes("journal.json"), []byte(`"phase":"staging"`)); n += 2 {
		m.CutAt(n, sim.Killed)
		_ = changeWeb(t, m, agent.Request{App: &agent.AppRequest{Do: agent.AppUpdate}, Force: true})
	}
	if got := m.Journal().Phase; got != agent.Staging {
		t.Fatalf("the OS is %s, want staging\n%s", got, tailOf(m))
	}
	m.Calm()
	for range 4 {
		m.Process(sim.Once)
	}
	if got := m.Running(); got == nil || got.Manifest.Version.String() != "2" || len(m.Broken()) > 0 {
		t.Errorf("got release %s in phase %s, want 2\n%s", got, m.Journal().Phase, tailOf(m))
	}
}
