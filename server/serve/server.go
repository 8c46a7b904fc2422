package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	maxHeader     = 16 << 10
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	// chunk must leave within chunkTimeout, which is a floor of 4 KiB/s.
	chunk        = 256 << 10
	chunkTimeout = time.Minute

	defaultConns = 10_000
	defaultGrace = 10 * time.Second
)

// Options says how to serve. The zero value is plain HTTP with the defaults.
type Options struct {
	CertFile string        // PEM; with KeyFile, serve TLS; read again when it changes
	KeyFile  string        // PEM
	Conns    int           // connections at once; 0 is 10,000
	Grace    time.Duration // for requests at work when the server stops; 0 is 10 s
	Log      *slog.Logger  // nil is silence; polls without news are logged at debug level
	Now      func() time.Time
}

// Server serves one repository. It is an http.Handler.
type Server struct {
	options Options
	root    *os.Root
	stamp   *stamp
	metrics *metrics
}

// Open returns a server of the repository in dir, which holds metadata/, targets/ and
// blobs/. A repository without a timestamp is served, and is unhealthy.
func Open(dir string, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Conns <= 0 {
		o.Conns = defaultConns
	}
	if o.Grace <= 0 {
		o.Grace = defaultGrace
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("repository: %w", err)
	}
	if info, err := root.Stat("metadata"); err != nil || !info.IsDir() {
		return nil, errors.Join(fmt.Errorf("repository %s: got no directory metadata, want a repository", dir), root.Close())
	}
	s := &Server{options: o, root: root, stamp: newStamp(root, o.Now)}
	s.metrics = newMetrics(s)
	return s, nil
}

// Close gives the directory back.
func (s *Server) Close() error { return s.root.Close() }

// Serve answers on ln until ctx ends, and then lets the requests at work finish. It
// closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ln = limitConns(ln, s.options.Conns)
	if s.options.CertFile != "" || s.options.KeyFile != "" {
		certificate, err := newCertificate(s.options)
		if err != nil {
			return errors.Join(err, ln.Close())
		}
		ln = tls.NewListener(ln, &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: certificate.get,
			NextProtos:     []string{"h2", "http/1.1"},
		})
	}
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      chunkTimeout, // extended while a file is sent
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.Grace)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		s.options.Log.Warn("requests were cut off", "error", err)
		_ = srv.Close()
	}
	<-served
	return nil
}
