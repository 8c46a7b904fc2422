package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	protocol  = "v1"
	algorithm = "ecdsa-p256"
)

// request is the part of the protocol's PluginArgs that matters here.
type request struct {
	InitOptions struct {
		ProtocolVersion string `json:"protocolVersion"`
		KeyResourceID   string `json:"keyResourceID"`
		HashFunc        int    `json:"hashFunc"`
	} `json:"initOptions"`
	MethodName string `json:"methodName"`
	CreateKey  struct {
		Algorithm string `json:"algorithm"`
	} `json:"createKey"`
}

// response is the protocol's PluginResp.
type response struct {
	ErrorMessage        string         `json:"errorMessage,omitempty"`
	DefaultAlgorithm    map[string]any `json:"defaultAlgorithm,omitempty"`
	SupportedAlgorithms map[string]any `json:"supportedAlgorithms,omitempty"`
	CreateKey           map[string]any `json:"createKey,omitempty"`
	PublicKey           map[string]any `json:"publicKey,omitempty"`
	SignMessage         map[string]any `json:"signMessage,omitempty"`
}

func main() {
	r, err := answer(os.Args[1:], os.Stdin)
	status := 0
	if err != nil {
		r, status = response{ErrorMessage: err.Error()}, 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		status = 1
	}
	os.Exit(status)
}

func answer(args []string, in io.Reader) (r response, err error) {
	if len(args) != 2 || args[0] != protocol {
		return r, fmt.Errorf("want the arguments %s and a request; this is a plugin for twinkeel-server", protocol)
	}
	var q request
	if err := json.Unmarshal([]byte(args[1]), &q); err != nil {
		return r, fmt.Errorf("request: %w", err)
	}
	t, err := openToken(q.InitOptions.KeyResourceID)
	if err != nil {
		return r, err
	}
	switch q.MethodName {
	case "defaultAlgorithm":
		r.DefaultAlgorithm = map[string]any{"defaultAlgorithm": algorithm}
	case "supportedAlgorithms":
		r.SupportedAlgorithms = map[string]any{"supportedAlgorithms": []string{algorithm}}
	case "createKey":
		if q.CreateKey.Algorithm != algorithm {
			return r, fmt.Errorf("create key: got algorithm %q, want %s", q.CreateKey.Algorithm, algorithm)
		}
		public, err := t.create()
		r.CreateKey = map[string]any{"publicKeyPEM": public}
		return r, err
	case "publicKey":
		public, err := t.public()
		r.PublicKey = map[string]any{"publicKeyPEM": public}
		return r, err
	case "signMessage":
		signature, err := t.sign(in)
		r.SignMessage = map[string]any{"signature": signature}
		return r, err
	default:
		return r, fmt.Errorf("method %q is not one of this plugin", q.MethodName)
	}
	return r, nil
}

// token is one key in one token.
type token struct{ module, token, pinFile, label string }

var keyLabel = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func openToken(label string) (*token, error) {
	if !keyLabel.MatchString(label) {
		return nil, fmt.Errorf("got key %.80q, want letters, digits, dots and dashes", label)
	}
	t := &token{os.Getenv("PKCS11_MODULE"), os.Getenv("PKCS11_TOKEN"), os.Getenv("PKCS11_PIN_FILE"), label}
	if t.module == "" || t.token == "" || t.pinFile == "" {
		return nil, errors.New("PKCS11_MODULE, PKCS11_TOKEN and PKCS11_PIN_FILE say which token to use")
	}
	return t, nil
}

// tool runs pkcs11-tool. The PIN goes through the environment, where other users do not
// see it, never through the arguments.
func (t *token) tool(login bool, args ...string) error {
	args = append([]string{"--module", t.module, "--token-label", t.token, "--label", t.label}, args...)
	cmd := exec.Command("pkcs11-tool", args...)
	cmd.Env = os.Environ()
	if login {
		pin, err := os.ReadFile(t.pinFile)
		if err != nil {
			return err
		}
		cmd.Args = append(cmd.Args, "--login", "--pin", "env:TWINKEEL_PIN")
		cmd.Env = append(cmd.Env, "TWINKEEL_PIN="+strings.TrimSpace(string(pin)))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("pkcs11-tool: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// result runs pkcs11-tool with a file for its result, and another with input.
func (t *token) result(login bool, input []byte, args ...string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "kms-softhsm-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "out")
	args = append(args, "--output-file", out)
	if input != nil {
		in := filepath.Join(dir, "in")
		if err := os.WriteFile(in, input, 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--input-file", in)
	}
	if err := t.tool(login, args...); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

func (t *token) create() ([]byte, error) {
	if _, err := t.public(); err == nil {
		return nil, fmt.Errorf("the token has a key %q already", t.label)
	}
	if err := t.tool(true, "--keypairgen", "--key-type", "EC:prime256v1", "--usage-sign"); err != nil {
		return nil, err
	}
	return t.public()
}

func (t *token) public() ([]byte, error) {
	der, err := t.result(false, nil, "--read-object", "--type", "pubkey")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if _, ok := key.(*ecdsa.PublicKey); !ok {
		return nil, fmt.Errorf("public key: got a %T, want ECDSA", key)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func (t *token) sign(in io.Reader) ([]byte, error) {
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return nil, err
	}
	return t.result(true, h.Sum(nil), "--sign", "--mechanism", "ECDSA", "--signature-format", "openssl")
}
