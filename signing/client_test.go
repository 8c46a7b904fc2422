package signing_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/signingtest"
)

var start = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

const (
	manifestName  = "os/stable/example-amd64/1.json"
	directiveName = "fleet/stable/directive.json"
)

// host is one host with its disk and clock.
type host struct {
	t       *testing.T
	disk    *disk
	now     time.Time
	minTime time.Time
	factory []byte
	*signing.Client
}

// newHost returns a host that trusts the first root of repo.
func newHost(t *testing.T, repo *signingtest.Repo) *host {
	t.Helper()
	h := &host{t: t, disk: newDisk(), now: start, factory: repo.RootBytes(1)}
	h.restart()
	return h
}

// restart is a new process on the same disk.
func (h *host) restart() {
	h.t.Helper()
	h.disk.restart()
	c, err := signing.Open(h.config())
	if err != nil {
		h.t.Fatalf("open: %v", err)
	}
	h.Client = c
}

func (h *host) config() signing.Config {
	return signing.Config{Dir: h.disk, Factory: h.factory, Now: func() time.Time { return h.now }, MinTime: h.minTime}
}

func (h *host) refresh(src signing.Source) error { return h.Refresh(context.Background(), src) }

// mustRefresh also checks that a second refresh agrees.
func (h *host) mustRefresh(src signing.Source) {
	h.t.Helper()
	for range 2 {
		if err := h.refresh(src); err != nil {
			h.t.Fatalf("refresh: %v", err)
		}
	}
}

func (h *host) target(src signing.Source, name string) ([]byte, error) {
	return h.Target(context.Background(), src, name, 1<<20)
}

// wantCode fails unless err has the code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if err == nil || signing.Code(err) != code {
		t.Fatalf("got error %v (code %q), want code %q", err, signing.Code(err), code)
	}
}

// newRepo has one channel with a release and a directive.
func newRepo() *signingtest.Repo {
	r := signingtest.New(start, "stable")
	r.SetTarget(manifestName, []byte(`{"release":1}`))
	r.SetTarget(directiveName, []byte(`{"directive":1}`))
	r.Publish("os-stable", "fleet-stable")
	r.TakeRequests()
	return r
}

func TestRefreshAsksInTheOrderOfTheSpecificationAndNothingTwice(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	check := func(do func() error, want ...string) {
		t.Helper()
		r.TakeRequests()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if got := r.TakeRequests(); !slices.Equal(got, want) {
			t.Errorf("requests:\n got %q\nwant %q", got, want)
		}
	}
	refresh := func() error { return h.refresh(r) }
	lookup := func() error {
		b, err := h.target(r, manifestName)
		if err == nil && string(b) != `{"release":1}` {
			err = fmt.Errorf("got %q", b)
		}
		return err
	}
	manifest := "targets/os/stable/example-amd64/" + sum(`{"release":1}`) + ".1.json"
	check(refresh, "metadata/2.root.json", "metadata/timestamp.json", "metadata/2.snapshot.json", "metadata/1.targets.json")
	check(lookup, "metadata/2.os-stable.json", manifest)
	check(lookup)
	check(refresh, "metadata/2.root.json", "metadata/timestamp.json")
	check(lookup)
	h.restart()
	check(lookup)
	check(refresh, "metadata/2.root.json", "metadata/timestamp.json")

	r.Publish("targets")
	check(refresh, "metadata/2.root.json", "metadata/timestamp.json", "metadata/3.snapshot.json", "metadata/2.targets.json")
	check(lookup)
	r.PublishRoot()
	r.PublishRoot()
	check(refresh, "metadata/2.root.json", "metadata/3.root.json", "metadata/4.root.json", "metadata/timestamp.json")
}

func TestRolesAreStoredByteForByteAsServed(t *testing.T) {
	r := newRepo()
	r.PublishRoot()
	h := newHost(t, r)
	h.mustRefresh(r)
	for _, name := range []string{manifestName, directiveName} {
		if _, err := h.target(r, name); err != nil {
			t.Fatal(err)
		}
	}
	for file, path := range map[string]string{
		"root.json": "metadata/2.root.json", "timestamp.json": "metadata/timestamp.json",
		"snapshot.json": "metadata/2.snapshot.json", "targets.json": "metadata/1.targets.json",
		"os-stable.json": "metadata/2.os-stable.json", "fleet-stable.json": "metadata/2.fleet-stable.json",
	} {
		if !bytes.Equal(h.disk.files[file], r.File(path)) {
			t.Errorf("%s is not byte for byte %s", file, path)
		}
	}
	if names, want := h.disk.list(""), 8; len(names) != want {
		t.Errorf("files: got %q, want %d: six roles and two floors", names, want)
	}
}

func TestEachRoleIsKeptThoughALaterStepFails(t *testing.T) {
	r := newRepo()
	for _, fails := range []string{"metadata/timestamp.json", "metadata/2.snapshot.json", "metadata/1.targets.json"} {
		h := newHost(t, r)
		wantCode(t, h.refresh(without(r, fails)), signing.Unavailable)
		have := map[string]int{"metadata/timestamp.json": 1, "metadata/2.snapshot.json": 2, "metadata/1.targets.json": 3}[fails]
		got := slices.DeleteFunc(h.disk.list(""), func(n string) bool { return n == "floor.0" || n == "floor.1" })
		if len(got) != have {
			t.Errorf("without %s: kept %q, want %d files", fails, got, have)
		}
		h.restart()
		h.mustRefresh(r)
	}
}

func TestCommittedMetadataServesWithoutNetworkUntilItExpires(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	h.mustRefresh(r)
	for _, name := range []string{manifestName, directiveName} {
		if _, err := h.target(r, name); err != nil {
			t.Fatal(err)
		}
	}
	h.restart()
	if b, err := h.target(nil, directiveName); err != nil || string(b) != `{"directive":1}` {
		t.Fatalf("offline: got %q, %v", b, err)
	}
	if got, want := h.Expires(), start.Add(signingtest.TimestampLife); !got.Equal(want) {
		t.Errorf("expires: got %s, want %s", got, want)
	}
	names, err := h.Names(context.Background(), nil, "os-stable")
	if err != nil || !slices.Equal(names, []string{manifestName}) {
		t.Errorf("names: got %q, %v", names, err)
	}
	h.now = start.Add(signingtest.TimestampLife + time.Second)
	for range 2 {
		_, err := h.target(nil, directiveName)
		wantCode(t, err, signing.Expired)
		_, err = h.Names(context.Background(), nil, "os-stable")
		wantCode(t, err, signing.Expired)
		wantCode(t, h.refresh(r), signing.Expired)
		if b, err := h.Cached(directiveName, 1<<20); err != nil || string(b) != `{"directive":1}` {
			t.Fatalf("cached: got %q, %v", b, err)
		}
		h.restart()
	}
	if st := h.State(); len(st.Roles) != 4 || st.Roles[0].Name != "root" || st.Roles[2].Version != 2 {
		t.Errorf("state: got %+v", st)
	}
	r.Now = h.now
	r.Publish()
	h.mustRefresh(r)
}

func TestTargetSaysWhatIsNotListedAndWhatIsNotThere(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	_, err := h.target(r, manifestName)
	wantCode(t, err, signing.Unavailable)
	h.mustRefresh(r)
	_, err = h.target(r, "os/stable/example-amd64/9.json")
	if !errors.Is(err, fs.ErrNotExist) || signing.Code(err) != "" {
		t.Errorf("not listed: got %v (code %q), want fs.ErrNotExist without a code", err, signing.Code(err))
	}
	_, err = h.target(nil, manifestName)
	wantCode(t, err, signing.Unavailable)
	_, err = h.target(without(r, "metadata/2.fleet-stable.json"), directiveName)
	wantCode(t, err, signing.Unavailable)
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a role that is not there reads like a target that is not listed: %v", err)
	}
	_, err = h.Target(context.Background(), r, manifestName, 5)
	wantCode(t, err, signing.Untrusted)
	if _, err = h.Names(context.Background(), r, "os-other"); signing.Code(err) != signing.Untrusted {
		t.Errorf("names of an unknown role: got %v", err)
	}
}

func TestExpiredRootBlocksAllButIsCommitted(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	h.mustRefresh(r)
	r.Edit("root", func(d signingtest.Doc) { d["expires"] = start.Add(-time.Hour).Format(time.RFC3339) })
	r.Bump("root")
	r.WriteRaw("root")
	wantCode(t, h.refresh(r), signing.Expired)
	_, err := h.target(nil, manifestName)
	wantCode(t, err, signing.Expired)
	if !bytes.Equal(h.disk.files["root.json"], r.RootBytes(2)) {
		t.Error("the expired root, which is the newest, was not committed")
	}
	r.PublishRoot()
	h.mustRefresh(r)
}

func TestOpenOnARealDirectory(t *testing.T) {
	r := newRepo()
	dir, err := durable.OpenDir(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := signing.Open(signing.Config{Dir: dir, Factory: r.RootBytes(1), Now: func() time.Time { return start }})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Refresh(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Target(context.Background(), r, manifestName, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	c, err := signing.Open(signing.Config{Dir: dir, Now: func() time.Time { return start }})
	if err != nil {
		t.Fatalf("without a factory root, but with a committed one: %v", err)
	}
	if _, err := c.Target(context.Background(), nil, manifestName, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := c.Reset(); err != nil {
		t.Fatal(err)
	}
	if names, err := dir.List(); err != nil || len(names) != 0 {
		t.Errorf("after reset: got %q, %v", names, err)
	}
	if _, err := signing.Open(signing.Config{Dir: dir, Now: func() time.Time { return start }}); err == nil {
		t.Error("opened without any root")
	}
}

func TestTargetCacheIsBounded(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	var names []string
	for i := range 100 {
		name := fmt.Sprintf("os/stable/example-amd64/%d.json", i+10)
		r.SetTarget(name, bytes.Repeat([]byte{byte(i)}, 300_000))
		names = append(names, name)
	}
	r.Publish("os-stable")
	h.disk.files["targets/stray"] = []byte("x")
	h.mustRefresh(r)
	for _, n := range names {
		if _, err := h.target(r, n); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	for _, f := range h.disk.list("targets/") {
		total += len(h.disk.files["targets/"+f])
	}
	if total > 8<<20 || total < 7<<20 {
		t.Errorf("cache: got %d bytes, want up to 8 MiB", total)
	}
	h.restart()
	if _, err := h.target(nil, names[99]); err != nil {
		t.Errorf("the newest target is not cached: %v", err)
	}
	if _, err := h.target(nil, names[0]); signing.Code(err) != signing.Unavailable {
		t.Errorf("the oldest target: got %v, want it gone", err)
	}
}

func TestStateIsSafeDuringARefresh(t *testing.T) {
	r := newRepo()
	h := newHost(t, r)
	h.mustRefresh(r)
	want := h.State()
	var got signing.State
	err := h.refresh(sourceFunc(func(ctx context.Context, path string, limit int64) ([]byte, error) {
		done := make(chan struct{})
		go func() { got = h.State(); close(done) }()
		<-done
		return r.Fetch(ctx, path, limit)
	}))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestSourceThatStallsIsCutOff(t *testing.T) {
	r := newRepo()
	for _, stalls := range []string{"metadata/2.root.json", "metadata/timestamp.json", "metadata/2.snapshot.json", "metadata/1.targets.json", "metadata/2.os-stable.json"} {
		h := newHost(t, r)
		cfg := h.config()
		cfg.FetchTimeout = 20 * time.Millisecond
		c, err := signing.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		h.Client = c
		err = use(h, sourceFunc(func(ctx context.Context, path string, limit int64) ([]byte, error) {
			if path == stalls {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return r.Fetch(ctx, path, limit)
		}))
		wantCode(t, err, signing.Unavailable)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want the deadline in its chain", stalls, err)
		}
	}
}
