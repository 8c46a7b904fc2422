package child

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

const (
	maxHeader    = 16 << 10
	maxRedirects = 3
)

// site is one repository behind HTTP.
type site struct {
	base     *url.URL
	client   *http.Client
	agent    string
	timeouts wire.Timeouts
	bucket   *bucket
}

func newSite(o wire.Options) (*site, error) {
	base, err := wire.ParseServer(o.Server)
	if err != nil {
		return nil, err
	}
	proxy, err := proxyOf(o.Proxy)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(o.CA)) {
			return nil, errors.New("certificate authorities: got no PEM certificate, want at least one")
		}
	}
	// HTTP/2 is left out: one request at a time gains nothing by it, and it is the
	// larger part of what a hostile server could play with.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &site{
		base:     base,
		agent:    o.UserAgent,
		timeouts: o.Timeouts,
		bucket:   newBucket(o.Bandwidth),
		client: &http.Client{
			CheckRedirect: checkRedirect,
			Transport: &http.Transport{
				Proxy:                  proxy,
				DialContext:            (&net.Dialer{Timeout: o.Timeouts.Connect, KeepAlive: 30 * time.Second}).DialContext,
				TLSClientConfig:        conf,
				TLSHandshakeTimeout:    o.Timeouts.Connect,
				ResponseHeaderTimeout:  o.Timeouts.Header,
				DisableCompression:     true,
				MaxResponseHeaderBytes: maxHeader,
				MaxIdleConnsPerHost:    2,
				MaxConnsPerHost:        maxConns,
				IdleConnTimeout:        90 * time.Second,
				Protocols:              protocols,
			},
		},
	}, nil
}

func proxyOf(text string) (func(*http.Request) (*url.URL, error), error) {
	switch text {
	case "":
		return http.ProxyFromEnvironment, nil
	case "none":
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, errors.New(`proxy: want a URL or "none"`)
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return http.ProxyURL(u), nil
	}
	return nil, fmt.Errorf("proxy: got scheme %.20q, want http, https or socks5", u.Scheme)
}

// errRedirect marks the end of a chain of redirects that nobody should follow.
var errRedirect = errors.New("redirect refused")

// checkRedirect lets a server rearrange its own paths, and nothing more: a redirect to
// another origin would let whoever answers choose whom this host talks to.
func checkRedirect(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: got more than %d in a row", errRedirect, maxRedirects)
	case req.URL.Scheme != first.Scheme:
		return fmt.Errorf("%w: from %s to %.20s", errRedirect, first.Scheme, req.URL.Scheme)
	case !strings.EqualFold(req.URL.Host, first.Host):
		return fmt.Errorf("%w: from %s to host %.100q; name that one as the server if it is right", errRedirect, first.Host, req.URL.Host)
	case req.URL.User != nil:
		return fmt.Errorf("%w: it carries a user name", errRedirect)
	}
	return nil
}

// address returns the URL of a path that wire.CheckPath accepted.
func (s *site) address(path string) string {
	u := *s.base
	u.Path = strings.TrimSuffix(u.Path, "/") + "/" + path
	u.RawPath = ""
	return u.String()
}
