package publisher

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// plugin writes a shell script as sigstore-kms-fake that answers as given.
func plugin(t *testing.T, script string) Plugins {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sigstore-kms-fake"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return Plugins{Dir: dir}
}

func TestPluginThatMisbehavesIsAnError(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"says nothing":      {"exit 0", "did not answer"},
		"is no JSON":        {"echo hello", "did not answer"},
		"fails":             {`echo '{"errorMessage":"no card\u001b[2J"}'; exit 3`, `no card`},
		"answers another":   {`echo '{"signMessage":{"signature":"AAAA"}}'`, "returns no public key"},
		"key is no key":     {`echo '{"publicKey":{"publicKeyPEM":"AAAA"}}'`, "public key"},
		"says far too much": {"yes", "did not answer"},
	} {
		_, err := plugin(t, c.script).Open("fake://k")
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestPluginIsTakenFromItsDirectoryOnly(t *testing.T) {
	p := plugin(t, "exit 0")
	t.Setenv("PATH", p.Dir+":"+os.Getenv("PATH"))
	for key, want := range map[string]string{
		"fake://k": "no directory of plugins", "../fake://k": "got scheme", "FAKE://k": "got scheme", "://k": "got scheme",
	} {
		if _, err := (Plugins{}).Open(key); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", key, err, want)
		}
	}
	if _, err := (Plugins{Dir: t.TempDir()}).Open("fake://k"); err == nil {
		t.Error("a plugin was found in PATH")
	}
	if err := os.Chmod(filepath.Join(p.Dir, "sigstore-kms-fake"), 0o775); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open("fake://k"); err == nil || !strings.Contains(err.Error(), "may be written by others") {
		t.Errorf("writable plugin: got %v", err)
	}
}

// A signature is looked at before it is used.
func TestPluginWithAWrongSignatureIsNoticed(t *testing.T) {
	key, err := Generate(P256)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := SaveKey(dir, "k", key, nil); err != nil {
		t.Fatal(err)
	}
	p := plugin(t, `case $2 in
*'"publicKey"'*) printf '{"publicKey":{"publicKeyPEM":"%s"}}' "$(base64 -w0 `+dir+`/k.pub)" ;;
*) echo '{"signMessage":{"signature":"MAYCAQECAQE="}}' ;;
esac`)
	k, err := p.Open("fake://k")
	if err != nil {
		t.Fatal(err)
	}
	if k.Public.ID != key.Public.ID {
		t.Errorf("got key %s, want %s", k.Public.ID, key.Public.ID)
	}
	if _, err := k.signer.SignMessage(strings.NewReader("message")); err == nil || !strings.Contains(err.Error(), "does not verify") {
		t.Errorf("got %v, want a refusal", err)
	}
	if err := SavePluginKey(dir, "here", "fake://k", k.Public); err != nil {
		t.Fatal(err)
	}
	ring, err := OpenRing(nil, dir)
	if err != nil || !ring.Has(key.Public.ID) {
		t.Fatalf("ring: %v", err)
	}
}
