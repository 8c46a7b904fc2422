package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
)

// softHSM makes a token and the plugin for it, and returns the plugin's directory.
func softHSM(t *testing.T) string {
	t.Helper()
	module := "/usr/lib/softhsm/libsofthsm2.so"
	needs.Tools(t, "pkcs11-tool", "softhsm2-util")
	_, err := os.Stat(module)
	needs.That(t, err == nil, module)
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	}
	tokens, plugins := filepath.Join(dir, "tokens"), filepath.Join(dir, "plugins")
	must(os.Mkdir(tokens, 0o700))
	must(os.Mkdir(plugins, 0o755))
	conf, pin := filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "pin")
	must(os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600))
	must(os.WriteFile(pin, []byte("4711\n"), 0o600))
	for k, v := range map[string]string{"SOFTHSM2_CONF": conf, "PKCS11_MODULE": module, "PKCS11_TOKEN": "twinkeel", "PKCS11_PIN_FILE": pin} {
		t.Setenv(k, v)
	}
	run("softhsm2-util", "--init-token", "--free", "--label", "twinkeel", "--pin", "4711", "--so-pin", "4712")
	run("go", "build", "-o", filepath.Join(plugins, "sigstore-kms-softhsm"), "github.com/twinkeel/twinkeel/examples/kms-softhsm")
	must(os.Chmod(filepath.Join(plugins, "sigstore-kms-softhsm"), 0o755))
	return plugins
}

// A release key that is made in a token, and never leaves it, signs a release that hosts
// accept, and a proposal.
func TestReleaseIsSignedByAKeyInSoftHSM(t *testing.T) {
	plugins := softHSM(t)
	dir := t.TempDir()
	site, image := filepath.Join(dir, "site"), filepath.Join(dir, "v1.img")
	pass := filepath.Join(dir, "pass")
	for path, content := range map[string][]byte{pass: []byte("secret\n"), image: bytes.Repeat([]byte("image"), 4000)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := newSite(site, true); err != nil {
		t.Fatal(err)
	}
	do := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		args = append(args, "--plugins", plugins, "--passphrase-file", pass, "--quiet")
		if code := run(t.Context(), args, nil, &out, &out); code != want {
			t.Fatalf("%v: got exit status %d, want %d: %s", args, code, want, &out)
		}
		return out.String()
	}
	keys := filepath.Join(site, "keys")
	do(exitDone, "key", "import", keys, "token", "--kms", "softhsm://release", "--create")
	do(exitError, "key", "import", keys, "again", "--kms", "softhsm://release", "--create")
	do(exitError, "key", "import", keys, "other", "--kms", "softhsm://nobody")
	p := filepath.Join(dir, "P")
	shown := do(exitDone, "root", site, "add-key", "--role", "os-stable", "--public", filepath.Join(keys, "token.pub"), "--to", "2", "--propose", p)
	if !strings.Contains(shown, "os-stable gets key token") {
		t.Errorf("proposal: got %s", shown)
	}
	do(exitDone, "proposal", "apply", p, "--dir", site)
	do(exitDone, "publish", site, "--channel", "stable", "--version", "1.0", "--compatible", "pc", "--image", "root="+image)
	do(exitDone, "verify", site)

	// The token away, the second signature is missing.
	if err := os.Rename(filepath.Join(keys, "token.kms"), filepath.Join(dir, "token.kms")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, bytes.Repeat([]byte("IMAGE"), 4000), 0o600); err != nil {
		t.Fatal(err)
	}
	release := []string{"publish", site, "--channel", "stable", "--version", "1.1", "--compatible", "pc", "--image", "root=" + image}
	do(exitError, release...)
	q := filepath.Join(dir, "Q")
	do(exitDone, append(release, "--propose", q)...)
	do(exitDone, "proposal", "sign", q, "--key", "softhsm://release")
	do(exitDone, "proposal", "apply", q, "--dir", site)
	do(exitDone, "verify", site)

	// A directory that others may write to is no place for programs that sign.
	if err := os.Chmod(plugins, 0o777); err != nil {
		t.Fatal(err)
	}
	if out := do(exitError, "proposal", "sign", q, "--key", "softhsm://release"); !strings.Contains(out, "may be written by others") {
		t.Errorf("open directory: got %s", out)
	}
}
