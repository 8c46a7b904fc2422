package serve

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is how often a changed certificate is looked for.
const lookEvery = 10 * time.Second

// certificate is the server's certificate, read again when its file changes: what
// renews certificates need not restart the server.
type certificate struct {
	certFile, keyFile string
	now               func() time.Time
	log               *slog.Logger

	mu     sync.Mutex
	loaded *tls.Certificate
	stamps [2]fileStamp
	looked time.Time
}

type fileStamp struct {
	size int64
	mod  time.Time
}

func newCertificate(o Options) (*certificate, error) {
	c := &certificate{certFile: o.CertFile, keyFile: o.KeyFile, now: o.Now, log: o.Log}
	if o.CertFile == "" || o.KeyFile == "" {
		return nil, fmt.Errorf("tls: want both a certificate and a key")
	}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return c, nil
}

func (c *certificate) load() error {
	stamps, err := c.look()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.loaded, c.stamps, c.looked = &pair, stamps, c.now()
	return nil
}

func (c *certificate) look() (stamps [2]fileStamp, err error) {
	for i, path := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, err
		}
		stamps[i] = fileStamp{info.Size(), info.ModTime()}
	}
	return stamps, nil
}

// get implements tls.Config.GetCertificate. While the files are half replaced, the old
// pair goes on.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.looked) >= lookEvery || now.Before(c.looked) {
		c.looked = now
		if stamps, err := c.look(); err != nil || stamps != c.stamps {
			if err == nil {
				err = c.load()
			}
			if err != nil {
				c.log.Warn("certificate is not replaced", "error", err)
			} else {
				c.log.Info("certificate replaced")
			}
		}
	}
	return c.loaded, nil
}
