package story

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/release"
)

// Exit codes of the operator's command.
const (
	refused = 4 // by policy
	busy    = 7
)

// firstBoot starts the server and adopts the factory's slot.
func (s *Story) firstBoot(ctx context.Context) error {
	began := time.Now()
	if err := s.startServer(ctx); err != nil {
		return err
	}
	boot, err := s.nextBoot(ctx, "a")
	if err != nil {
		return err
	}
	file, err := s.manifestFile(0)
	if err != nil {
		return err
	}
	if _, err := s.twinkeel(ctx, "init", "--manifest", file); err != nil {
		return err
	}
	if _, err := s.settled(ctx, "a", s.Releases[0].Version); err != nil {
		return err
	}
	return s.table.add(row{step: "first boot, twinkeel init", took: time.Since(began), used: s.machine.Usage(), notes: []string{boot}})
}

// update publishes the second release and lets the host have it.
func (s *Story) update(ctx context.Context) error {
	if err := s.publishNext(ctx, 1, 0, "publish "); err != nil {
		return err
	}
	began := time.Now()
	if _, err := s.twinkeel(ctx, "update", "--now"); err != nil {
		return err
	}
	return s.trial(ctx, "update to "+s.Releases[1].Version, began, 1, "b")
}

// trial follows release i through its trial in slot to its commit.
func (s *Story) trial(ctx context.Context, step string, began time.Time, i int, slot string) error {
	boot, err := s.nextBoot(ctx, slot)
	if err != nil {
		return err
	}
	staged := time.Since(began)
	if _, err := s.settled(ctx, slot, s.Releases[i].Version); err != nil {
		return err
	}
	last, err := s.lastEntry(ctx)
	if err != nil {
		return err
	}
	if last.To.String() != s.Releases[i].Version || last.Result != "committed" {
		return fmt.Errorf("history: got %+v, want %s committed", last, s.Releases[i].Version)
	}
	r := row{step: step, took: time.Since(began), used: s.machine.Usage(),
		notes: []string{fmt.Sprintf("%s on trial after %s; healthy for %s; committed", boot, seconds(staged), s.Soak)}}
	if last.Bytes > 0 {
		m, err := s.manifest(i)
		if err != nil {
			return err
		}
		r.moved, r.full = last.Bytes, fullBytes(m)
	}
	return s.table.add(r)
}

// broken publishes the release that fails its health check, and sees the host leave it.
func (s *Story) broken(ctx context.Context) error {
	bad, good := s.Releases[2].Version, s.Releases[1].Version
	if err := s.publishNext(ctx, 2, 1, "publish a bad "); err != nil {
		return err
	}
	began := time.Now()
	if _, err := s.twinkeel(ctx, "update", "--now"); err != nil {
		return err
	}
	there, err := s.nextBoot(ctx, "a")
	if err != nil {
		return err
	}
	back, err := s.nextBoot(ctx, "b")
	if err != nil {
		return err
	}
	st, err := s.settled(ctx, "b", good)
	if err != nil {
		return err
	}
	if len(st.Denied) != 1 || st.Denied[0].Version.String() != bad || st.Denied[0].Code != agent.CodeUnhealthy {
		return fmt.Errorf("denials: got %+v, want %s as unhealthy", st.Denied, bad)
	}
	last, err := s.lastEntry(ctx)
	if err != nil {
		return err
	}
	if last.Result != "rolled-back" || last.To.String() != bad {
		return fmt.Errorf("history: got %+v, want %s rolled back", last, bad)
	}
	m, err := s.manifest(2)
	if err != nil {
		return err
	}
	err = s.table.add(row{step: "update to it, left again by itself", took: time.Since(began), moved: last.Bytes, full: fullBytes(m),
		used:  s.machine.Usage(),
		notes: append(append([]string{there + " on trial"}, reasons(last.Text)...), back+", "+good+" again, as before")})
	if err != nil {
		return err
	}
	return s.declined(ctx, agent.CodeDenied)
}

// declined asks for an update, which the host has to refuse for the reason code.
func (s *Story) declined(ctx context.Context, code string) error {
	_, err := s.twinkeel(ctx, "update", "--now")
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != refused || !strings.Contains(exit.Output, code) {
		return fmt.Errorf("update after a denial: got %w, want exit code %d and %q", err, refused, code)
	}
	return s.table.note("asked to update once more: refused as " + code)
}

// bundle brings the repaired release to a host that reaches no server.
func (s *Story) bundle(ctx context.Context) error {
	if err := s.publishNext(ctx, 3, 1, "publish a repaired "); err != nil {
		return err
	}
	file := filepath.Join(s.Work, "bundle.tar")
	began := time.Now()
	if _, err := s.command(ctx, "twinkeel-server", "export", s.site(), "--channel", channel, "-o", file); err != nil {
		return err
	}
	s.stopServer()
	if err := s.table.add(row{step: "export a bundle, stop the server", took: time.Since(began)}); err != nil {
		return err
	}
	began = time.Now()
	if _, err := s.twinkeel(ctx, "update", "--now", "--bundle", file); err != nil {
		return err
	}
	return s.trial(ctx, "update from the bundle", began, 3, "a")
}

// rollback goes back by hand while neither server nor agent runs.
func (s *Story) rollback(ctx context.Context) error {
	s.machine.StopAgent(ctx)
	began := time.Now()
	if _, err := s.twinkeel(ctx, "rollback", "--reason", "a customer complained"); err != nil {
		return err
	}
	if err := s.trial(ctx, "rollback by hand: no server, no agent", began, 1, "b"); err != nil {
		return err
	}
	if err := s.startServer(ctx); err != nil {
		return err
	}
	return s.declined(ctx, agent.CodeDenied)
}

// ending reads both slots back and prints what they are.
func (s *Story) ending(ctx context.Context) error {
	began := time.Now()
	var reports []agent.VerifyReport
	if err := s.ask(ctx, &reports, "verify"); err != nil {
		return err
	}
	var st agent.Status
	if err := s.ask(ctx, &st, "status"); err != nil {
		return err
	}
	var notes []string
	for _, sl := range st.Slots {
		if sl.Version == nil {
			return fmt.Errorf("slot %s: its version is unknown at the end", sl.Name)
		}
		m, err := s.manifestOf(*sl.Version)
		if err != nil {
			return err
		}
		state := "stands by"
		if sl.Running {
			state = "runs"
		}
		notes = append(notes, fmt.Sprintf("slot %s  %s  %s", sl.Name, sl.Version, state))
		for _, i := range m.Images {
			if !verified(reports, sl.Name, i) {
				return fmt.Errorf("slot %s: image %s is not what %s says: %+v", sl.Name, i.Name, sl.Version, reports)
			}
			by := "read back"
			if s.Verify != nil {
				if err := s.Verify(ctx, Image{sl.Name, i.Name, s.Devices[i.Name+"-"+sl.Name], i.Size, i.Root.String(), fmt.Sprintf("%x", []byte(i.Salt))}); err != nil {
					return fmt.Errorf("slot %s: image %s: second opinion: %w", sl.Name, i.Name, err)
				}
				by += ", and checked by veritysetup"
			}
			notes = append(notes, fmt.Sprintf("        %-5s %s  %s", i.Name, i.Root.String()[:16], by))
		}
	}
	return s.table.add(row{step: "verify both slots", took: time.Since(began), notes: notes})
}

func verified(reports []agent.VerifyReport, slot string, i release.Image) bool {
	for _, r := range reports {
		if r.Slot == slot && r.Image == i.Name {
			return r.OK && r.Got == i.Root
		}
	}
	return false
}

// publishNext publishes release i and reports what it costs a host that has release base.
func (s *Story) publishNext(ctx context.Context, i, base int, verb string) error {
	began := time.Now()
	if err := s.publish(ctx, i, base); err != nil {
		return err
	}
	m, err := s.manifest(i)
	if err != nil {
		return err
	}
	old, err := s.manifest(base)
	if err != nil {
		return err
	}
	s.machine.Usage() // what the agent did meanwhile belongs to no step
	return s.table.add(row{step: verb + s.Releases[i].Version, took: time.Since(began), moved: deltaBytes(m, old), full: fullBytes(m)})
}

// manifestOf returns the manifest of a version.
func (s *Story) manifestOf(v release.Version) (release.Manifest, error) {
	for i, r := range s.Releases {
		if r.Version == v.String() {
			return s.manifest(i)
		}
	}
	return release.Manifest{}, fmt.Errorf("version %s was never published", v)
}

// lastEntry returns the newest entry of the host's history.
func (s *Story) lastEntry(ctx context.Context) (agent.HistoryEntry, error) {
	var h []agent.HistoryEntry
	if err := s.ask(ctx, &h, "history"); err != nil {
		return agent.HistoryEntry{}, err
	}
	if len(h) == 0 {
		return agent.HistoryEntry{}, errors.New("history: got no entry")
	}
	last := h[0]
	for _, e := range h {
		if e.Seq > last.Seq {
			last = e
		}
	}
	return last, nil
}

// reasons are the parts of a verdict, one on each line.
func reasons(text string) (lines []string) {
	for r := range strings.SplitSeq(text, "; ") {
		lines = append(lines, "  "+r)
	}
	return lines
}
