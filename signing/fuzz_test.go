package signing_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/signingtest"
)

// fuzzRole serves the input as the newest version of a role: once as it is, and once,
// if it is a JSON object, as that role's signed part under the right keys. Nothing may
// panic, the verdict has a code, and the host goes on with the honest repository.
func fuzzRole(f *testing.F, role string) {
	honest := newRepo()
	var file struct{ Signed json.RawMessage }
	path := "metadata/2." + role + ".json"
	switch role {
	case "root", "targets":
		path = "metadata/1." + role + ".json"
	case "timestamp":
		path = "metadata/timestamp.json"
	}
	if err := json.Unmarshal(honest.File(path), &file); err != nil {
		f.Fatal(err)
	}
	f.Add(honest.File(path))
	f.Add([]byte(file.Signed))
	for _, change := range [][2]string{{`"version":1`, `"version":2`}, {`"version":2`, `"version":3`}, {`"length":`, `"length":-`},
		{`"threshold":1`, `"threshold":0`}, {`{`, `{"_type":null,`}, {`"meta":{`, `"meta":{"x.json":null,`}, {`sha256`, `sha512`}} {
		f.Add([]byte(strings.ReplaceAll(string(file.Signed), change[0], change[1])))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newRepo()
		h := newHost(t, r)
		mustUse(t, h, r)
		serve := func(evil *repo, b []byte) {
			evil.Bump(role)
			evil.Put(role, b)
			evil.Bump("snapshot", "timestamp")
			if role != "snapshot" && role != "timestamp" {
				evil.Write("snapshot")
			}
			if role != "timestamp" {
				evil.Write("timestamp")
			}
			if err := use(h, evil); err != nil && signing.Code(err) == "" && !strings.Contains(err.Error(), "no role lists it") {
				t.Fatalf("got %v, want an error with a code", err)
			}
		}
		serve(r.Clone(), b)
		var signed signingtest.Doc
		if json.Unmarshal(b, &signed) == nil && signed != nil {
			evil := r.Clone()
			serve(evil, evil.Sign(signed, evil.Keys(role)...))
		}
	})
}

func FuzzRoot(f *testing.F)      { fuzzRole(f, "root") }
func FuzzTimestamp(f *testing.F) { fuzzRole(f, "timestamp") }
func FuzzSnapshot(f *testing.F)  { fuzzRole(f, "snapshot") }
func FuzzTargets(f *testing.F)   { fuzzRole(f, "targets") }
func FuzzDelegated(f *testing.F) { fuzzRole(f, "os-stable") }
