package apps

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// service is the story of a real service, with its two layouts.
type service struct {
	*story
	layouts string
}

// newService has the older version of a service installed, nil in the process that only
// makes room for the test. The host wants others beside it.
func newService(t *testing.T, app string, others ...string) *service {
	dir := layouts(t, app)
	if os.Getenv(inside) == "" {
		apart(t)
		return nil
	}
	s := &service{newStory(t, app), dir}
	for _, o := range others {
		s.want(o)
	}
	s.publish(filepath.Join(dir, app+"-1"), "")
	s.twinkeel(0, "init")
	s.daemon()
	s.twinkeel(0, "app", "update", app)
	return s
}

// publish makes and publishes an application of a layout, with the service's own app.toml
// and a probation that a test can wait for. Version is the layout's own, or more than it.
func (s *service) publish(from, version string) {
	s.t.Helper()
	text, err := os.ReadFile(s.app + ".toml")
	if err != nil {
		s.t.Fatal(err)
	}
	text = bytes.Replace(text, []byte(`publisher = "debian"`), []byte(`publisher = "acme"`), 1)
	text = bytes.Replace(text, []byte("[health]\n"), []byte("[health]\nprobation = \"2s\"\n"), 1)
	text = bytes.Replace(text, []byte("start = \"2m\""), []byte("start = \"30s\""), 1)
	file := filepath.Join(s.dir, "app.toml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if version == "" {
		b, err := os.ReadFile(filepath.Join(from, "version"))
		if err != nil {
			s.t.Fatal(err)
		}
		version = strings.TrimSpace(string(b))
	}
	out := s.t.TempDir()
	s.server("app", "build", "--from", from, "--manifest", file, "--version", version, "-o", out)
	s.server("app", "publish", s.site, filepath.Join(out, s.app+"-"+version+".json"), "--channel", "stable", "--deltas", "1")
}

// next updates to the newer version, and returns what ran before and what runs.
func (s *service) next() (old, now string) {
	s.t.Helper()
	old = s.status("status", s.app).Version.String()
	s.publish(filepath.Join(s.layouts, s.app+"-2"), "")
	s.twinkeel(0, "app", "update", s.app)
	if now = s.status("status", s.app).Version.String(); now == old {
		s.t.Fatalf("got version %s still, want a newer one", now)
	}
	s.t.Logf("%s %s became %s", s.app, old, now)
	return old, now
}

// back goes back to a version with the data of then.
func (s *service) back(version string) {
	s.t.Helper()
	s.twinkeel(0, "app", "rollback", s.app, "--data=restore")
	if now := s.status("status", s.app).Version.String(); now != version {
		s.t.Errorf("after the rollback: got version %s, want %s", now, version)
	}
}

// ask asks nginx once.
func ask(port string) error {
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, 5*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	b, err := io.ReadAll(c)
	if err == nil && !strings.Contains(string(b), "200 OK") {
		err = fmt.Errorf("got %q", b)
	}
	return err
}

func TestRedisIsUpdatedAndRolledBackWithItsData(t *testing.T) {
	s := newService(t, "redis")
	if s == nil {
		return
	}
	s.redis(300, "of before")
	data := s.keys(300)
	old, _ := s.next()
	if now := s.keys(300); now != data {
		t.Errorf("data after the update: got %s, want %s", now, data)
	}
	s.redis(500, "of after")
	if now := s.keys(300); now == data {
		t.Error("what was written since is not there")
	}
	s.back(old)
	if now := s.keys(300); now != data {
		t.Errorf("data after the rollback: got %s, want %s", now, data)
	}
	if n := s.talk("DBSIZE\r\nQUIT\r\n"); !strings.HasPrefix(n, ":300\r\n") {
		t.Errorf("keys after the rollback: got %q, want 300", n)
	}
}

// redis sets keys 1 to n.
func (s *service) redis(n int, value string) {
	s.t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "SET key:%d \"%d %s\"\r\n", i, i, value)
	}
	if got := s.talk(b.String() + "QUIT\r\n"); strings.Count(got, "+OK\r\n") != n+1 {
		s.t.Fatalf("set %d keys: got %.200q", n, got)
	}
}

// keys is a checksum of keys 1 to n with their values.
func (s *service) keys(n int) string {
	s.t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "GET key:%d\r\n", i)
	}
	got := s.talk(b.String() + "QUIT\r\n")
	if strings.Contains(got, "$-1") {
		s.t.Errorf("keys are missing: got %.200q", got)
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(got)))
}

// talk says words to Redis and returns its answers.
func (s *service) talk(words string) string {
	s.t.Helper()
	var answer []byte
	s.eventually("an answer of redis", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:6379")
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		go func() { _, _ = io.WriteString(c, words) }()
		answer, err = io.ReadAll(c)
		return err == nil && len(answer) > 0
	})
	return string(answer)
}

// alter is the start of a version that changes the form of the data, and then fails.
const alter = `#!/bin/sh
set -e
bin=/usr/lib/postgresql/15/bin
"$bin/pg_ctl" -D "$PGDATA" -w -o "-c unix_socket_directories=/run -c listen_addresses=" start
"$bin/psql" -h /run -U app -d postgres -c 'ALTER TABLE t DROP COLUMN sum'
"$bin/pg_ctl" -D "$PGDATA" -w -m fast stop
exit 1
`

func TestPostgreSQLIsUpdatedAndSparedAMigrationThatFails(t *testing.T) {
	s := newService(t, "postgres")
	if s == nil {
		return
	}
	s.sql("CREATE TABLE t AS SELECT i, md5(i::text) AS sum FROM generate_series(1, 5000) i")
	s.sql("VACUUM (FREEZE) t")
	table, file := s.table()
	old, now := s.next()
	if sum, bytes := s.table(); sum != table || bytes != file {
		t.Errorf("table after the update: got %s in file %s, want %s in %s", sum, bytes, table, file)
	}

	// It alters the schema, and ends: undone, to the byte.
	s.publish(s.broken(), "99")
	s.contains(s.twinkeel(6, "app", "update", "postgres"), "rolled-back")
	if v := s.status("status", s.app).Version.String(); v != now {
		t.Errorf("after a migration that failed: got version %s, want %s", v, now)
	}
	if sum, bytes := s.table(); sum != table || bytes != file {
		t.Errorf("table after a migration that failed: got %s in file %s, want %s in %s", sum, bytes, table, file)
	}
	altered := false
	for _, line := range strings.Split(s.twinkeel(0, "app", "logs", "postgres", "-n", "1000"), "\n") {
		altered = altered || strings.HasSuffix(line, "ALTER TABLE")
	}
	if !altered {
		t.Error("the migration never took place: its output is not in the log")
	}

	s.sql("DELETE FROM t WHERE i > 10")
	s.back(old)
	if sum, bytes := s.table(); sum != table || bytes != file {
		t.Errorf("table after the rollback: got %s in file %s, want %s in %s", sum, bytes, table, file)
	}
}

// sql runs a statement in the database, with the client of its own image.
func (s *service) sql(statement string) string {
	s.t.Helper()
	return strings.TrimSpace(s.twinkeel(0, "app", "exec", "postgres", "/usr/lib/postgresql/15/bin/psql", "-h", "/run", "-U", "app", "-d", "postgres", "-AtqXc", statement))
}

// table is a checksum of the table's rows, and one of the file that they lie in.
func (s *service) table() (rows, file string) {
	s.t.Helper()
	s.eventually("a database", func() bool {
		ask := exec.Command(filepath.Join(s.bin, "twinkeel"), "--config", filepath.Join(s.dir, "twinkeel.toml"),
			"app", "exec", "postgres", "/usr/lib/postgresql/15/bin/pg_isready", "-q", "-h", "/run", "-d", "postgres")
		return ask.Run() == nil
	})
	rows = s.sql("SELECT count(*) || ' ' || md5(string_agg(i || ' ' || sum, ',' ORDER BY i)) FROM t")
	s.sql("CHECKPOINT")
	path := filepath.Join(s.generation(s.liveGeneration()), "db", s.sql("SELECT pg_relation_filepath('t')"))
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return rows, strconv.Itoa(len(b)) + " " + fmt.Sprintf("%x", sha256.Sum256(b))
}

// broken is a layout of the newer version with another start.
func (s *service) broken() string {
	s.t.Helper()
	index, err := layout.ImageIndexFromPath(filepath.Join(s.layouts, s.app+"-2"))
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		s.t.Fatal(err)
	}
	var img v1.Image
	if img, err = index.Image(m.Manifests[0].Digest); err != nil {
		s.t.Fatal(err)
	}
	top, err := layer(map[string][]byte{"etc/app/start": []byte(alter)})
	if err == nil {
		img, err = mutate.AppendLayers(img, top)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	dir := filepath.Join(s.t.TempDir(), "layout")
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = p.AppendImage(img)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return dir
}
