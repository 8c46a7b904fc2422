package serve_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/server/serve"
)

// start serves on loopback until the test ends, and returns the address.
func start(t *testing.T, r *repo) (address string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx, ln) }()
	stop = sync.OnceValue(func() error { cancel(); return <-served })
	t.Cleanup(func() { _ = stop() })
	return ln.Addr().String(), stop
}

func TestAStopLetsRequestsFinish(t *testing.T) {
	r := newRepo(t, serve.Options{})
	address, stop := start(t, r)
	resp, err := http.Get("http://" + address + "/" + r.blobPath())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, r.blob) {
		t.Errorf("got %d bytes and %v, want %d", len(got), err, len(r.blob))
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + address + "/healthz"); err == nil {
		t.Error("the server still answers")
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	r := newRepo(t, serve.Options{Conns: 1, Grace: time.Millisecond})
	address, _ := start(t, r)
	first, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	const request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	if _, err := io.WriteString(first, request); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	second, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	if _, err := io.WriteString(second, request); err != nil {
		t.Fatal(err)
	}
	_ = second.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := second.Read(make([]byte, 1)); err == nil {
		t.Errorf("the second connection got %d bytes while the first was open", n)
	}
	_ = first.Close()
	_ = second.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := second.Read(make([]byte, 1)); err != nil {
		t.Errorf("after the first was closed: %v", err)
	}
}

func TestHugeHeadersAreRefused(t *testing.T) {
	r := newRepo(t, serve.Options{})
	address, _ := start(t, r)
	req, err := http.NewRequest("GET", "http://"+address+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-A", strings.Repeat("x", 64<<10))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d, want 431", resp.StatusCode)
	}
}

// writePair writes a new self-signed certificate with the serial number.
func writePair(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
		// File times are coarse; make sure that they differ.
		stamp := time.Unix(1_700_000_000+serial, 0)
		if err := os.Chtimes(path, stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestARenewedCertificateIsUsedWithoutARestart(t *testing.T) {
	dir := t.TempDir()
	cert, key := writePair(t, dir, 1)
	r := newRepo(t, serve.Options{CertFile: cert, KeyFile: key})
	address, _ := start(t, r)
	serial := func() int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Errorf("got certificate %d, want 1", got)
	}
	writePair(t, dir, 2)
	if err := os.WriteFile(cert, []byte("half written"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.clock.add(10 * time.Second)
	if got := serial(); got != 1 {
		t.Errorf("damaged file: got certificate %d, want the old one", got)
	}
	writePair(t, dir, 3)
	r.clock.add(10 * time.Second)
	if got := serial(); got != 3 {
		t.Errorf("got certificate %d, want 3", got)
	}
	if _, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	if err := newRepo(t, serve.Options{CertFile: cert}).Serve(t.Context(), listener(t)); err == nil {
		t.Error("a certificate without a key was accepted")
	}
}

func listener(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}
