package apps

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/agent"
)

// decode decodes what a command of twinkeel app says, as a program would that knows the
// types of the interface.
func (s *story) decode(into any, args ...string) {
	s.t.Helper()
	d := json.NewDecoder(strings.NewReader(s.twinkeel(0, append(append([]string{"app"}, args...), "--json")...)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		s.t.Fatalf("app %s --json: %v", strings.Join(args, " "), err)
	}
}

// status is what is said of the one application.
func (s *story) status(args ...string) agent.AppStatus {
	s.t.Helper()
	var a agent.AppAnswer
	s.decode(&a, args...)
	i := slices.IndexFunc(a.Apps, func(a agent.AppStatus) bool { return a.Name == s.app && a.Version != nil })
	if i < 0 {
		s.t.Fatalf("app %s: got %+v, want %s, installed", strings.Join(args, " "), a.Apps, s.app)
	}
	return a.Apps[i]
}

func (s *story) data() []agent.AppParked {
	s.t.Helper()
	var list []agent.AppParked
	s.decode(&list, "data", "list", s.app)
	return list
}

func (s *story) liveGeneration() string {
	s.t.Helper()
	list := s.data()
	i := slices.IndexFunc(list, func(g agent.AppParked) bool { return g.Live })
	if i < 0 {
		s.t.Fatalf("no generation is live: %+v", list)
	}
	return list[i].Generation
}

// generation is the directory of one.
func (s *story) generation(name string) string {
	return filepath.Join(s.dir, "apps/data", s.app, "gen", name)
}

// commands goes through what an operator has besides updates and rollbacks, on a host that
// runs version 1 of notes with two notes.
func (s *story) commands() {
	s.t.Helper()
	for _, ask := range [][]string{{"list"}, {"status", "notes"}, {"why", "notes"}} {
		if a := s.status(ask...); a.State != "running" || a.Version.String() != "1.0" || a.Run == nil || !a.Run.Running {
			s.t.Errorf("app %v: got %+v, want version 1.0, running", ask, a)
		}
	}
	var lines []string
	if s.decode(&lines, "logs", "notes", "-n", "1"); len(lines) != 1 || !strings.Contains(lines[0], "notes 1 has 2 notes") {
		s.t.Errorf("logs: got %q", lines)
	}
	s.contains(s.twinkeel(42, "app", "exec", "notes", "/bin/notes", "version"), "notes 1")

	s.asked()
	s.chosen()
	s.restored()
	s.twinkeel(0, "app", "hold", "notes")
	s.contains(s.twinkeel(0, "app", "unpin", "notes"), "follows the newest")
	if a := s.status("status", "notes"); a.Pin != nil || a.Hold == nil {
		s.t.Errorf("held, and no longer pinned: got %+v", a)
	}
}

// asked is about a version that asks for a permission.
func (s *story) asked() {
	s.t.Helper()
	permissions := func() (list []agent.AppGrant) {
		s.t.Helper()
		s.decode(&list, "permissions", "notes")
		return list
	}
	if list := permissions(); len(list) != 0 {
		s.t.Errorf("permissions: got %+v, want none", list)
	}
	// Held, lest the agent installs it by itself as soon as it may.
	s.twinkeel(0, "app", "hold", "notes", "--until", "48h", "--reason", "the sale")
	s.server("app", "publish", s.site, s.build("2", 4, 2, "[[permissions]]\nname = \"proc-full\"\n"), "--channel", "stable")
	for range 2 {
		s.contains(s.twinkeel(4, "app", "update", "notes"), "asks for proc-full, which nobody granted")
		s.twinkeel(0, "app", "grant", "notes", "proc-full")
		if list := permissions(); !slices.Contains(list, agent.AppGrant{App: "notes", Permission: "proc-full", Granted: true, By: "operator"}) {
			s.t.Errorf("permissions: got %+v, want that the operator granted proc-full", list)
		}
		s.contains(s.twinkeel(0, "app", "grant", "notes", "proc-full", "--revoke"), "no longer gets proc-full")
	}
	s.twinkeel(0, "app", "grant", "notes", "proc-full")
}

// chosen is about what an operator decides over the version that is offered.
func (s *story) chosen() {
	s.t.Helper()
	s.contains(s.twinkeel(4, "app", "update", "notes"), "the sale")
	if a := s.status("status", "notes"); a.Hold == nil || a.Hold.Reason != "the sale" {
		s.t.Errorf("held: got %+v", a)
	}

	before, data := s.get(), s.live()
	s.contains(s.twinkeel(0, "app", "update", "notes", "--rehearse"), "nothing was changed")
	s.contains(s.twinkeel(6, "app", "update", "notes", "3.0", "--rehearse"), "nothing was changed")
	if now := s.get(); now != before {
		s.t.Errorf("after rehearsals: got %q, want %q", now, before)
	}
	if now := s.live(); !bytes.Equal(now, data) {
		s.t.Errorf("data after rehearsals: got %q, want %q", now, data)
	}
	if list := s.data(); slices.ContainsFunc(list, func(g agent.AppParked) bool { return g.Generation == "rehearsal" }) {
		s.t.Errorf("data after rehearsals: got %+v, want no copy", list)
	}

	s.twinkeel(0, "app", "pin", "notes", "1.0")
	s.twinkeel(0, "app", "unhold", "notes")
	s.twinkeel(3, "app", "update", "notes")
	if a := s.status("status", "notes"); a.Pin == nil || a.Pin.String() != "1.0" || a.Hold != nil {
		s.t.Errorf("pinned: got %+v", a)
	}
	s.twinkeel(0, "app", "stop", "notes")
	if a := s.status("list"); a.State != "stopped" || s.get() != "" {
		s.t.Errorf("stopped: got %+v", a)
	}
	s.twinkeel(0, "app", "start", "notes")
	s.wants("1", "buy milk", "call Ada")
}

// restored is about data of before.
func (s *story) restored() {
	s.t.Helper()
	first := s.liveGeneration()
	s.contains(s.twinkeel(2, "app", "data", "drop", "notes", first), "in use")
	s.contains(s.twinkeel(2, "app", "data", "restore", "notes", "g0"), "has no data called")
	s.twinkeel(0, "app", "data", "restore", "notes", first)
	second := s.liveGeneration()
	s.wants("1", "buy milk", "call Ada")
	s.post("on a copy")
	s.twinkeel(0, "app", "data", "restore", "notes", first)
	s.wants("1", "buy milk", "call Ada")
	s.twinkeel(0, "app", "data", "restore", "notes", second)
	s.wants("1", "buy milk", "call Ada", "on a copy")

	list := s.data()
	i := slices.IndexFunc(list, func(g agent.AppParked) bool { return !g.Live && !g.Kept })
	if i < 0 {
		s.t.Fatalf("nothing can be dropped: %+v", list)
	}
	s.twinkeel(0, "app", "data", "drop", "notes", list[i].Generation)
	if _, err := os.Stat(s.generation(list[i].Generation)); !os.IsNotExist(err) {
		s.t.Errorf("dropped generation %s: got %v", list[i].Generation, err)
	}
	s.wants("1", "buy milk", "call Ada", "on a copy")
}
