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
		r, err := Find(context.Background(), []Kind{Crun, Runc}, path, t.TempDir())
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := len(r.Warnings()) > 0; got != want {
			t.Errorf("%s: warnings: got %v, want some: %t", line, r.Warnings(), want)
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
		if r, err := Find(context.Background(), []Kind{Crun, Runc}, path, t.TempDir()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %+v, %v, want an error that names it", name, r, err)
		}
	}
}
