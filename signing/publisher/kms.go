package publisher

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
)

// pluginPrefix begins the name of every plugin; what follows is the scheme of its keys.
const pluginPrefix = "sigstore-kms-"

// Limits on a plugin: how long it may take, as people may have to touch a token, and how
// much it may say.
const (
	pluginTimeout = 2 * time.Minute
	maxPluginSays = 64 << 10 // bytes
)

var pluginScheme = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// Plugins runs keys that live in a device or a service: a key called NAME://KEY belongs
// to the program sigstore-kms-NAME, which speaks sigstore's plugin protocol v1.
// Unlike sigstore's own client it looks for programs in one directory, never in PATH: who
// can put a file there can sign with every key, and nobody else should.
type Plugins struct {
	Dir    string    // "": there are none
	Stderr io.Writer // where plugins talk to people; nil: nowhere
}

// IsPluginKey reports whether a name is one of a key behind a plugin.
func IsPluginKey(name string) bool { return strings.Contains(name, "://") }

// program returns the executable for a key, in a directory that only its owner changes.
func (p Plugins) program(key string) (string, error) {
	scheme, _, _ := strings.Cut(key, "://")
	if !pluginScheme.MatchString(scheme) {
		return "", fmt.Errorf("key %.80q: got scheme %.40q, want letters, digits and dashes", key, scheme)
	}
	if p.Dir == "" {
		return "", fmt.Errorf("key %.80q: there is no directory of plugins; name one with --plugins", key)
	}
	dir, err := filepath.Abs(p.Dir)
	if err != nil {
		return "", fmt.Errorf("plugins %s: %w", p.Dir, err)
	}
	program := filepath.Join(dir, pluginPrefix+scheme)
	for _, path := range []string{dir, program} {
		st, err := os.Stat(path)
		if err != nil {
			return "", fmt.Errorf("plugin for %.80q: %w", key, err)
		}
		if st.Mode().Perm()&0o022 != 0 {
			return "", fmt.Errorf("plugin for %.80q: %s may be written by others than its owner (mode %v)", key, path, st.Mode().Perm())
		}
	}
	return program, nil
}

// call runs one method of a plugin.
func (p Plugins) call(key string, in io.Reader, method *common.MethodArgs) (*common.PluginResp, error) {
	program, err := p.program(key)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(pluginTimeout)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	_, id, _ := strings.Cut(key, "://")
	args, err := json.Marshal(common.PluginArgs{MethodArgs: method, InitOptions: &common.InitOptions{
		CtxDeadline: &deadline, ProtocolVersion: common.ProtocolVersion, KeyResourceID: id, HashFunc: crypto.SHA256, RPCOptions: &common.RPCOptions{}}})
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", program, err)
	}
	var out limited
	cmd := exec.CommandContext(ctx, program, common.ProtocolVersion, string(args))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, p.Stderr
	cmd.WaitDelay = time.Second
	// A plugin may end with any status: what counts is what it says.
	runErr := cmd.Run()
	var resp common.PluginResp
	if err := json.Unmarshal(out.b, &resp); err != nil {
		return nil, fmt.Errorf("plugin %s: %s: it did not answer as it should: %w", program, method.MethodName, errors.Join(runErr, err))
	}
	if resp.ErrorMessage != "" {
		return nil, fmt.Errorf("plugin %s: %s: %.500q", program, method.MethodName, resp.ErrorMessage)
	}
	return &resp, nil
}

// limited keeps what is written to it, up to a limit, and fails beyond.
type limited struct{ b []byte }

func (l *limited) Write(p []byte) (int, error) {
	if len(l.b)+len(p) > maxPluginSays {
		return 0, fmt.Errorf("got more than %d bytes", maxPluginSays)
	}
	l.b = append(l.b, p...)
	return len(p), nil
}

// Create makes a new key behind a plugin and returns its public half.
func (p Plugins) Create(key string) (PublicKey, error) {
	algorithm, err := p.call(key, nil, &common.MethodArgs{MethodName: common.DefaultAlgorithmMethodName, DefaultAlgorithm: &common.DefaultAlgorithmArgs{}})
	if err != nil {
		return PublicKey{}, err
	}
	if algorithm.DefaultAlgorithm == nil {
		return PublicKey{}, fmt.Errorf("key %.80q: the plugin names no algorithm", key)
	}
	r, err := p.call(key, nil, &common.MethodArgs{MethodName: common.CreateKeyMethodName,
		CreateKey: &common.CreateKeyArgs{Algorithm: algorithm.DefaultAlgorithm.DefaultAlgorithm}})
	if err != nil {
		return PublicKey{}, err
	}
	if r.CreateKey == nil {
		return PublicKey{}, fmt.Errorf("key %.80q: the plugin returns no public key", key)
	}
	return parsePluginKey(key, r.CreateKey.PublicKeyPEM)
}

func parsePluginKey(key string, pem []byte) (PublicKey, error) {
	public, err := ParsePublic(pem)
	if err != nil {
		return PublicKey{}, fmt.Errorf("key %.80q: %w", key, err)
	}
	return public, nil
}

// Open returns a key that signs behind a plugin.
func (p Plugins) Open(key string) (*PrivateKey, error) {
	r, err := p.call(key, nil, &common.MethodArgs{MethodName: common.PublicKeyMethodName, PublicKey: &common.PublicKeyArgs{PublicKeyOptions: &common.PublicKeyOptions{}}})
	if err != nil {
		return nil, err
	}
	if r.PublicKey == nil {
		return nil, fmt.Errorf("key %.80q: the plugin returns no public key", key)
	}
	public, err := parsePluginKey(key, r.PublicKey.PublicKeyPEM)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{Public: public, signer: pluginSigner{p, key, public}}, nil
}

// pluginSigner is a signature.Signer behind a plugin.
type pluginSigner struct {
	plugins Plugins
	key     string
	public  PublicKey
}

func (s pluginSigner) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return s.public.pub, nil
}

// SignMessage has the plugin sign, and looks at what it returns: a signature that does
// not verify would otherwise travel as far as the last check before a publication.
func (s pluginSigner) SignMessage(message io.Reader, _ ...signature.SignOption) ([]byte, error) {
	b, err := io.ReadAll(message)
	if err != nil {
		return nil, err
	}
	hash := crypto.SHA256
	r, err := s.plugins.call(s.key, bytes.NewReader(b), &common.MethodArgs{MethodName: common.SignMessageMethodName,
		SignMessage: &common.SignMessageArgs{SignOptions: &common.SignOptions{MessageOptions: common.MessageOptions{HashFunc: &hash}}}})
	if err != nil {
		return nil, err
	}
	if r.SignMessage == nil {
		return nil, fmt.Errorf("key %.80q: the plugin returns no signature", s.key)
	}
	verifier, err := signature.LoadVerifier(s.public.pub, crypto.SHA256)
	if err == nil {
		err = verifier.VerifySignature(bytes.NewReader(r.SignMessage.Signature), bytes.NewReader(b))
	}
	if err != nil {
		return nil, fmt.Errorf("key %.80q: the plugin's signature does not verify: %w", s.key, err)
	}
	return r.SignMessage.Signature, nil
}

// SavePluginKey writes NAME.pub and NAME.kms into dir: a key that is used from here and
// lives elsewhere.
func SavePluginKey(dir, name, key string, public PublicKey) error {
	// The reference first, as SaveKey has it.
	if err := writeNew(filepath.Join(dir, name+".kms"), []byte(key+"\n"), 0o600); err != nil {
		return fmt.Errorf("save key: %w", err)
	}
	pem, err := public.PEM()
	if err != nil {
		return fmt.Errorf("save key %s: %w", name, err)
	}
	if err := writeNew(filepath.Join(dir, name+".pub"), pem, 0o644); err != nil {
		return fmt.Errorf("save key: %w", err)
	}
	return nil
}
