package oci

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRuntimesWithKnownWaysOutAreNamed(t *testing.T) {
	for line, want := range map[string]bool{
		"runc version 1.1.5+ds1":        true,
		"runc version 1.2.7":            true,
		"runc version 1.2.8":            false,
		"runc version 1.3.0-rc.1":       true,
		"runc version 1.3.2":            true,
		"runc version 1.3.3":            false,
		"runc version 1.4.0\nspec: 1.2": false,
		"crun version 1.8.1":            false,
	} {
		path := filepath.Join(t.TempDir(), "runtime")
		if err := os.WriteFile(path, []byte("#!/bin/sh\nprintf '"+line+"\\n'\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		r, err := new(Finder).Find(context.Background(), []Kind{Crun, Runc}, path, t.TempDir())
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := len(r.Warnings()) > 0; got != want {
			t.Errorf("%s: warnings: got %v, want some: %t", line, r.Warnings(), want)
		}
	}
}

func TestASandboxWhoseKernelsSeeEachOtherIsNamed(t *testing.T) {
	for platform, want := range map[string]bool{"ptrace": true, "systrap": false} {
		path := filepath.Join(t.TempDir(), "runsc")
		script := "#!/bin/sh\ncase $1 in flags) printf '  -pid-file string\\n    \\t(default \"x\")\\n  -platform string\\n    \\tspecifies which (default \"" + platform + "\")\\n' ;; *) echo runsc version release-20250101.0 ;; esac\n"
		if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		r, err := new(Finder).Find(t.Context(), []Kind{Runsc}, path, t.TempDir())
		if err != nil || r.Platform != platform || len(r.Warnings()) > 0 != want {
			t.Errorf("got %+v, %v with warnings %v, want some: %t", r, err, r.Warnings(), want)
		}
	}
}

func TestAnythingElseIsNoRuntime(t *testing.T) {
	for name, script := range map[string]string{
		"another program":   "#!/bin/sh\necho podman version 4.3.1\n",
		"another level":     "#!/bin/sh\necho runsc version release-20250101.0\n",
		"one that fails":    "#!/bin/sh\nexit 1\n",
		"one without words": "#!/bin/sh\n",
	} {
		path := filepath.Join(t.TempDir(), "runtime")
		if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		if r, err := new(Finder).Find(context.Background(), []Kind{Crun, Runc}, path, t.TempDir()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %+v, %v, want an error that names it", name, r, err)
		}
	}
}

func TestARuntimeIsAskedOnceAndAgainWhenItIsAnotherOne(t *testing.T) {
	dir := t.TempDir()
	path, asked := filepath.Join(dir, "runtime"), filepath.Join(dir, "asked")
	install := func(version string) {
		if err := os.WriteFile(path+".new", []byte("#!/bin/sh\necho >> "+asked+"\necho crun version "+version+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	var f Finder
	for i, version := range []string{"1.8", "1.9"} {
		install(version)
		for range 3 {
			if r, err := f.Find(t.Context(), []Kind{Crun}, path, dir); err != nil || r.Version != version || r.State != dir {
				t.Errorf("got %+v, %v, want version %s", r, err, version)
			}
		}
		if b, err := os.ReadFile(asked); err != nil || len(b) != i+1 {
			t.Errorf("asked %d times, %v, want %d", len(b), err, i+1)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if r, err := f.Find(t.Context(), []Kind{Crun}, path, dir); err == nil {
		t.Errorf("a runtime that is gone: got %+v", r)
	}
}
