package signingtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/release"
)

// How long what is signed is valid, by role; delegated roles as "targets".
const (
	RootLife      = 365 * 24 * time.Hour
	TargetsLife   = 180 * 24 * time.Hour
	ReleaseLife   = 60 * 24 * time.Hour // os-*
	OnlineLife    = 7 * 24 * time.Hour  // snapshot, fleet-*
	TimestampLife = 3 * 24 * time.Hour
)

// Repo is a repository and everything that is needed to sign it.
type Repo struct {
	// Now is when things are signed.
	Now time.Time
	// Requests lists the paths that Fetch was asked for.
	Requests []string
	// Bytes counts what Fetch has returned.
	Bytes int64

	docs  map[string]Doc // the signed part of each role, as it will be signed next
	keys  map[string][]Key
	root  []Key // keys that signed the last root
	files *shelf
	spare int // number of keys made, so that each has another name
}

// Doc is the signed part of a metadata file.
type Doc = map[string]any

// New makes and publishes a repository with roles os-<channel> and fleet-<channel> for
// each channel, all at version 1, without targets.
func New(now time.Time, channels ...string) *Repo {
	r := &Repo{Now: now, docs: map[string]Doc{}, keys: map[string][]Key{}, files: newShelf(nil)}
	roles := Doc{}
	for _, role := range []string{"root", "targets", "snapshot", "timestamp"} {
		r.docs[role] = Doc{"_type": role, "spec_version": "1.0.31", "version": 1}
		r.keys[role] = []Key{r.NewKey(role)}
		roles[role] = Doc{"keyids": []any{}, "threshold": 1}
	}
	root := r.docs["root"]
	root["consistent_snapshot"], root["keys"], root["roles"] = true, Doc{}, roles
	r.docs["snapshot"]["meta"], r.docs["timestamp"]["meta"] = Doc{}, Doc{}
	r.docs["targets"]["targets"] = Doc{}
	r.docs["targets"]["delegations"] = Doc{"keys": Doc{}, "roles": []any{}}
	for _, role := range []string{"root", "targets", "snapshot", "timestamp"} {
		r.SetKeys(role, 1, r.keys[role]...)
	}
	for _, c := range channels {
		r.Delegate("targets", "os-"+c, true, "os/"+c+"/*/*")
		r.Delegate("targets", "fleet-"+c, true, "fleet/"+c+"/*")
	}
	r.Write("root")
	for _, role := range r.targetsRoles() {
		r.Write(role)
	}
	r.Write("snapshot")
	r.Write("timestamp")
	return r
}

// Clone returns a copy with the same keys: what somebody who stole them can do while the
// honest repository goes on.
func (r *Repo) Clone() *Repo {
	c := *r
	c.Requests = nil
	c.docs, c.keys, c.files = clone(r.docs).(map[string]Doc), maps.Clone(r.keys), newShelf(r.files.all())
	return &c
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]Doc:
		out := map[string]Doc{}
		for k, e := range v {
			out[k] = clone(e).(Doc)
		}
		return out
	case Doc:
		out := Doc{}
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = clone(e)
		}
		return out
	}
	return v
}

// targetsRoles returns targets and all delegated roles, sorted.
func (r *Repo) targetsRoles() []string {
	var out []string
	for role, doc := range r.docs {
		if doc["_type"] == "targets" {
			out = append(out, role)
		}
	}
	slices.Sort(out)
	return out
}

// Delegate makes a role and lets parent delegate paths to it.
func (r *Repo) Delegate(parent, role string, terminating bool, paths ...string) {
	patterns := []any{}
	for _, p := range paths {
		patterns = append(patterns, p)
	}
	if r.docs[role] == nil {
		r.docs[role] = Doc{"_type": "targets", "spec_version": "1.0.31", "version": 1, "targets": Doc{}}
		r.keys[role] = []Key{r.NewKey(role)}
	}
	if r.docs[parent]["delegations"] == nil {
		r.docs[parent]["delegations"] = Doc{"keys": Doc{}, "roles": []any{}}
	}
	d := r.docs[parent]["delegations"].(Doc)
	d["roles"] = append(d["roles"].([]any), Doc{"name": role, "paths": patterns, "terminating": terminating,
		"keyids": []any{}, "threshold": 1})
	r.SetKeys(role, 1, r.keys[role]...)
}

// Edit changes the signed part of a role; Write or Publish make it visible.
func (r *Repo) Edit(role string, f func(Doc)) { f(r.docs[role]) }

// SetTarget puts a target into the role that its name belongs to (os/<channel>/… into
// os-<channel>, fleet/<id>/… into fleet-<id>, else targets) and its file into the
// repository.
func (r *Repo) SetTarget(name string, content []byte) {
	r.SetTargetIn(RoleOf(name), name, content)
}

// SetTargetIn does that in a given role.
func (r *Repo) SetTargetIn(role, name string, content []byte) {
	sum := release.DigestOf(content).String()
	r.docs[role]["targets"].(Doc)[name] = Doc{"length": len(content), "hashes": Doc{"sha256": sum}}
	dir, base := path.Split(name)
	r.files.put("targets/"+dir+sum+"."+base, content)
}

// RoleOf returns the role that lists a target of twinkeel's layout.
func RoleOf(target string) string {
	e := strings.SplitN(target, "/", 3)
	if len(e) == 3 && (e[0] == "os" || e[0] == "fleet") {
		return e[0] + "-" + e[1]
	}
	return "targets"
}

// Version returns the version that a role's document has now.
func (r *Repo) Version(role string) int64 { return int64(r.docs[role]["version"].(int)) }

// SetVersion sets it.
func (r *Repo) SetVersion(role string, v int64) { r.docs[role]["version"] = int(v) }

// Bump adds one to the version of each role.
func (r *Repo) Bump(roles ...string) {
	for _, role := range roles {
		r.SetVersion(role, r.Version(role)+1)
	}
}

// Publish bumps and writes the given targets roles, then snapshot and timestamp.
func (r *Repo) Publish(roles ...string) {
	r.Bump(roles...)
	for _, role := range roles {
		r.Write(role)
	}
	for _, role := range []string{"snapshot", "timestamp"} {
		r.Bump(role)
		r.Write(role)
	}
}

// PublishRoot bumps and writes the root.
func (r *Repo) PublishRoot() {
	r.Bump("root")
	r.Write("root")
}

// Write signs a role as it is now and puts it into the repository; its listing in
// snapshot or timestamp is brought up to date, but not written. A root is signed by the
// keys of the one before it, too. The expiry is set from Now unless WriteRaw is used.
func (r *Repo) Write(role string) {
	r.docs[role]["expires"] = r.Now.Add(life(role)).UTC().Format(time.RFC3339)
	if role == "timestamp" {
		r.docs[role]["signedAt"] = r.Now.UTC().Format(time.RFC3339)
	}
	r.WriteRaw(role)
}

// WriteRaw is Write that leaves the document exactly as it is.
func (r *Repo) WriteRaw(role string) {
	keys := r.keys[role]
	if role == "root" {
		keys = append(slices.Clone(keys), r.root...)
		r.root = r.keys[role]
	}
	r.Put(role, r.Sign(r.docs[role], keys...))
}

// Put places bytes as the current version of a role and updates the listing.
func (r *Repo) Put(role string, b []byte) {
	v := r.docs[role]["version"]
	switch role {
	case "timestamp":
		r.files.put("metadata/timestamp.json", b)
		return
	case "root":
	case "snapshot":
		r.list("timestamp", "snapshot.json", v, b)
	default:
		r.list("snapshot", role+".json", v, b)
	}
	r.files.put(fmt.Sprintf("metadata/%v.%s.json", v, role), b)
}

// list lists a metadata file in parent, unless a test has taken the list away.
func (r *Repo) list(parent, file string, version any, b []byte) {
	if meta, ok := r.docs[parent]["meta"].(Doc); ok {
		meta[file] = Doc{"version": version, "length": len(b), "hashes": Doc{"sha256": release.DigestOf(b).String()}}
	}
}

func life(role string) time.Duration {
	switch {
	case role == "root":
		return RootLife
	case role == "timestamp":
		return TimestampLife
	case role == "snapshot" || strings.HasPrefix(role, "fleet-"):
		return OnlineLife
	case strings.HasPrefix(role, "os-"):
		return ReleaseLife
	}
	return TargetsLife
}

// Sign returns the bytes of a metadata file: doc, signed by each key once.
func (r *Repo) Sign(doc Doc, keys ...Key) []byte {
	payload := Canonical(doc)
	sigs := []any{}
	seen := map[string]bool{}
	for _, k := range keys {
		if !seen[k.ID] {
			sigs = append(sigs, Doc{"keyid": k.ID, "sig": k.Sign(payload)})
		}
		seen[k.ID] = true
	}
	b, err := json.Marshal(Doc{"signed": doc, "signatures": sigs})
	if err != nil {
		panic(fmt.Sprintf("signingtest: sign: %v", err))
	}
	return b
}

// RootBytes returns one version of the root, as a host's factory has it.
func (r *Repo) RootBytes(version int) []byte {
	return r.File(fmt.Sprintf("metadata/%d.root.json", version))
}

// File returns a file of the repository, or nil.
func (r *Repo) File(path string) []byte { return bytes.Clone(r.files.get(path)) }

// SetFile replaces a file of the repository; nil removes it.
func (r *Repo) SetFile(path string, b []byte) {
	r.files.put(path, b)
}

// Files returns a copy of all files by path.
func (r *Repo) Files() map[string][]byte { return r.files.all() }

// SetFiles replaces all files, such as by those of an earlier day.
func (r *Repo) SetFiles(files map[string][]byte) { r.files.set(files) }

// Fetch implements signing.Source.
func (r *Repo) Fetch(ctx context.Context, path string, limit int64) ([]byte, error) {
	r.Requests = append(r.Requests, path)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := r.files.get(path)
	if b == nil {
		return nil, fmt.Errorf("get %s: %w", path, fs.ErrNotExist)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("get %s: more than %d bytes", path, limit)
	}
	r.Bytes += int64(len(b))
	return bytes.Clone(b), nil
}

// TakeRequests returns the requests since it was last called.
func (r *Repo) TakeRequests() []string {
	out := r.Requests
	r.Requests = nil
	return out
}
