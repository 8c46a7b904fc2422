package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/twinkeel/twinkeel/signing/publisher"
)

func TestMain(m *testing.M) {
	testscript.Main(cleaner{m}, map[string]func(){"twinkeel-server": main})
}

// cleaner removes what the tests shared. It runs in the testing process only, not in the
// commands that are started from the same binary.
type cleaner struct{ *testing.M }

func (c cleaner) Run() int {
	code := c.M.Run()
	if dir, err := template(); err == nil {
		os.RemoveAll(filepath.Dir(dir))
	}
	return code
}

// template is a fresh site of profile solo with the passphrase "secret", made once.
var template = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "twinkeel-template-")
	if err != nil {
		return "", err
	}
	pass := filepath.Join(dir, "pass")
	if err := os.WriteFile(pass, []byte("secret\n"), 0o600); err != nil {
		return "", err
	}
	var out strings.Builder
	site := filepath.Join(dir, "site")
	if code := run(context.Background(), []string{"init", site, "--passphrase-file", pass, "--quiet"}, nil, &out, &out); code != exitDone {
		return "", os.ErrInvalid
	}
	return site, nil
})

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			examples, err := filepath.Abs(filepath.Join("..", "..", "examples"))
			if err != nil {
				return err
			}
			e.Setenv("EXAMPLES", examples)
			e.Setenv("TWINKEEL_PASSPHRASE_FILE", filepath.Join(e.WorkDir, "pass"))
			return os.WriteFile(filepath.Join(e.WorkDir, "pass"), []byte("secret\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"site": cmdSite, "image": cmdImage, "flip": cmdFlip, "status": cmdStatus,
			"container": cmdContainer,
		},
	})
}

// cmdSite (site DIR [open]) makes a fresh site; with open, the release key lies in the
// clear, which saves the time that a passphrase is made to cost.
func cmdSite(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: site DIR [open]")
	}
	ts.Check(newSite(ts.MkAbs(args[0]), len(args) > 1))
}

func newSite(dir string, open bool) error {
	from, err := template()
	if err != nil {
		return err
	}
	if err := errors.Join(os.CopyFS(dir, os.DirFS(from)), os.MkdirAll(filepath.Join(dir, "staging"), 0o700)); err != nil || !open {
		return err
	}
	path := filepath.Join(dir, "keys", "release.pem")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	key, err := publisher.ParsePrivate(b, func() ([]byte, error) { return []byte("secret"), nil })
	if err != nil {
		return err
	}
	if b, err = key.Encode(nil); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// cmdImage (image FILE SIZE SEED [OFFSET]) writes an image of noise, the same for the same
// seed, changed a little at OFFSET.
func cmdImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: image FILE SIZE SEED [OFFSET]")
	}
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	b := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte(args[2]))).Read(b)
	if len(args) > 3 {
		offset, err := strconv.Atoi(args[3])
		ts.Check(err)
		copy(b[offset:], "changed")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// cmdFlip (flip GLOB) flips the last bit of the largest file that matches.
func cmdFlip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: flip GLOB")
	}
	names, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	var largest []byte
	var name string
	for _, n := range names {
		b, err := os.ReadFile(n)
		ts.Check(err)
		if len(b) > len(largest) {
			largest, name = b, n
		}
	}
	if name == "" {
		ts.Fatalf("flip: nothing matches %s", args[0])
	}
	largest[len(largest)-1] ^= 1
	ts.Check(os.WriteFile(name, largest, 0o644))
}

// cmdStatus (status CODE COMMAND...) runs a command that must end with the exit code.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		text := err.Error()
		i := strings.LastIndex(text, "exit status ")
		if i < 0 {
			ts.Fatalf("%v", err)
		}
		got, err = strconv.Atoi(text[i+len("exit status "):])
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("got exit status %d, want %s", got, args[0])
	}
}
