package apps

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/workloads/oci"
)

// nginx is of class system, and board, whose name comes first, starts after it.
func TestNginxIsUpdatedWhileAClientAsks(t *testing.T) {
	s := newService(t, "nginx", "board")
	if s == nil {
		return
	}
	s.eventually("an answer", func() bool { return ask("8080") == nil })
	s.after = "nginx"
	s.server("app", "publish", s.site, s.buildAs("board", 8081, "1", 1, 1), "--channel", "stable")
	s.twinkeel(0, "app", "update", "board")
	s.post("buy milk")
	behind := s.since("board")

	stop, failed := make(chan struct{}), make(chan []error)
	go func() {
		var list []error
		n := 0
		defer func() { s.t.Logf("%d requests", n); failed <- list }()
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			n++
			if err := ask("8080"); err != nil {
				list = append(list, err)
			}
		}
	}()
	old, _ := s.next()
	close(stop)
	if list := <-failed; len(list) > 0 {
		t.Errorf("%d requests failed, such as: %v", len(list), list[0])
	}

	// What comes after it goes on, whatever becomes of it.
	goesOn := func(what string) {
		t.Helper()
		if now := s.since("board"); now != behind || s.get() == "" {
			t.Errorf("%s: board runs since %s and says %q, want it untouched since %s", what, now, s.get(), behind)
		}
	}
	goesOn("after the update of nginx")
	s.back(old)
	goesOn("after its rollback")
	s.twinkeel(0, "app", "stop", "nginx")
	goesOn("while it is stopped")
	s.twinkeel(0, "app", "start", "nginx")
	goesOn("after its start")

	// As after a boot: nothing runs, of which nobody knows, and the agent starts both.
	was := s.since("nginx")
	s.killDaemon()
	if err := oci.Groups().Kill(t.Context(), "/"+s.instance); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll("/run/twinkeel"); err != nil { // this test's own
		t.Fatal(err)
	}
	s.daemon()
	s.eventually("both, started again", func() bool {
		return s.since("nginx").After(was) && s.since("board").After(behind) && s.get() != "" && ask("8080") == nil
	})
	if first, then := s.since("nginx"), s.since("board"); !first.Before(then) {
		t.Errorf("nginx started at %s and board at %s, want nginx first", first, then)
	}
	s.wants("1", "buy milk")
}

// since is when an application that runs was started.
func (s *service) since(app string) time.Time {
	s.t.Helper()
	name := s.app
	s.app = app
	defer func() { s.app = name }()
	if a := s.status("status", app); a.Run != nil {
		return a.Run.Since
	}
	return time.Time{}
}

// want has the host want one more application.
func (s *service) want(app string) {
	s.t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, "twinkeel.toml"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := fmt.Fprintf(f, "[[app]]\nname = %q\npublisher = \"acme\"\n", app); err != nil {
		s.t.Fatal(err)
	}
}
