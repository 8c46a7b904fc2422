package agent_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// stillLoader has one slot that stands, for ever.
type stillLoader struct{ bootloader.BootLoader }

func (stillLoader) Booted(context.Context) (bootloader.Boot, error) {
	return bootloader.Boot{Slot: partitions.A, ID: "1", Firmware: true}, nil
}

func (stillLoader) Load(context.Context) (bootloader.State, error) {
	return bootloader.State{Slots: [2]bootloader.Record{{Priority: 2, Successful: true}}}, nil
}

// Questions are answered at any time, by goroutines of their own.
func TestQuestionsAboutAppsDoNotRace(t *testing.T) {
	dir, err := durable.OpenDir(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Options{Tries: 3, State: dir, Loader: stillLoader{}, Apps: &agent.Apps{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if _, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppList}}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
