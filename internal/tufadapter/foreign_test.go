package main

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// foreign opens one of the repositories that python-tuf made, see testdata/tuf/foreign.
func foreign(t *testing.T, name string) *stage {
	t.Helper()
	dir := filepath.Join("..", "..", "testdata", "tuf", "foreign", name)
	read := func(path string) []byte {
		if strings.Contains(path, "/../") {
			return nil
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return nil
		}
		return b
	}
	s := newStage(t, read)
	s.init(read("metadata/1.root.json"), 0)
	return s
}

// The odd role is delegated to under "../Odd/röle ?#".
const oddRole, oddFile = "..%2FOdd%2Fr%C3%B6le%20%3F%23.json", "%2E.%2FOdd%2Fr%C3%B6le%20%3F%23"

func TestAForeignRepositoryIsReadToTheLetter(t *testing.T) {
	s := foreign(t, "consistent")
	s.refresh(0)
	s.wantAsked("2.root.json", "3.root.json", "4.root.json", "5.root.json", "timestamp.json", "12.snapshot.json", "7.targets.json")
	s.download(0, "plain.txt", "long.txt", "by/prefix.txt", "odd/a b?#%.txt", "bins/one.txt", "bins/two.txt")
	prefix := "targets/"
	var metadata []string
	for _, a := range s.asked {
		if !strings.HasPrefix(a, prefix) {
			metadata = append(metadata, a)
		}
	}
	s.asked = metadata
	s.wantAsked("5.root.json", "timestamp.json", "1.by-prefix.json", "3."+oddRole, "2.bins.json",
		"1.bin-"+bin("bins/one.txt")+".json", "1.bin-"+bin("bins/two.txt")+".json")
	s.wantContents("bins/one.txt\n", "bins/two.txt\n", "found by its hash\n", "odd names\n", "plain\n", "sha512 only\n")
	s.download(0, "both.txt")
	s.wantAsked("5.root.json", "timestamp.json", "targets/"+digest("two hashes\n")+".both.txt")
	want := map[string][]byte{}
	for role, file := range map[string]string{
		"root": "4.root", "timestamp": "timestamp", "snapshot": "12.snapshot", "targets": "7.targets", "by-prefix": "1.by-prefix",
		"bins": "2.bins", "bin-" + bin("bins/one.txt"): "1.bin-" + bin("bins/one.txt"), "bin-" + bin("bins/two.txt"): "1.bin-" + bin("bins/two.txt"),
		oddFile: "3." + strings.TrimSuffix(oddRole, ".json"),
	} {
		b, err := os.ReadFile(filepath.Join("../../testdata/tuf/foreign/consistent/metadata", file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		want[role] = b
	}
	s.wantFiles(want)
	s.download(1, "odd/absent")
	s.wantAsked("5.root.json", "timestamp.json")
	s.download(1, "bins/absent")
	if len(s.asked) > 3 {
		t.Errorf("got requests %q, want one more bin at most", s.asked)
	}
}

// bin is the hash bin of a target out of eight: the first three bits of its hash.
func bin(target string) string {
	sum := sha256.Sum256([]byte(target))
	return string(rune('0' + sum[0]>>5))
}

func TestARepositoryWithoutConsistentSnapshotsIsRead(t *testing.T) {
	s := foreign(t, "flat")
	s.download(0, "plain.txt", "odd/a b?#%.txt")
	s.wantAsked("2.root.json", "3.root.json", "4.root.json", "5.root.json", "timestamp.json", "snapshot.json", "targets.json",
		"targets/plain.txt", oddRole, "targets/odd/a%20b%3F%23%25.txt")
	s.wantContents("odd names\n", "plain\n")
	s.download(0, "plain.txt", "odd/a b?#%.txt")
	s.wantAsked("5.root.json", "timestamp.json")
}

func TestAnswersThatAreNoFilesAreRefused(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"redirect":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"error":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"no content": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
		"cut short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, newRepo())
			asked := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				answer(w, r)
			}))
			defer srv.Close()
			s.call(1, "--metadata-url", srv.URL, "--metadata-dir", s.metadataDir, "refresh")
			if asked != 1 {
				t.Errorf("got %d requests, want 1: nothing is tried again or followed", asked)
			}
		})
	}
}
