package writer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/agent/fetcher"
	"github.com/twinkeel/twinkeel/deltas"
)

// lateNet is agent.Net over the fetcher, which it starts or connects to when it is
// first used: what needs no network, such as a rollback, must not depend on it.
type lateNet struct {
	config *config.Config
	log    *slog.Logger

	mu     sync.Mutex
	client *fetcher.Client
	last   *bundleNet // whose connections are still open
	closed bool
}

func (n *lateNet) open(ctx context.Context) (*fetcher.Client, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, fmt.Errorf("fetcher: %w: closed", agent.ErrUnavailable)
	}
	if n.client != nil {
		return n.client, nil
	}
	o := fetcher.Options{
		Server: n.config.Server, CAFile: n.config.CA, Proxy: n.config.Proxy,
		Bandwidth: n.config.Update.Bandwidth, Version: Version, Log: n.log,
	}
	var c *fetcher.Client
	var err error
	if n.config.Fetcher == config.FetcherSpawn {
		c, err = fetcher.Spawn(ctx, o)
	} else {
		c, err = fetcher.Dial(ctx, n.config.Fetcher, o)
	}
	if err != nil {
		return nil, fmt.Errorf("fetcher: %w", err)
	}
	n.client = c
	return c, nil
}

func (n *lateNet) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.client == nil {
		return nil
	}
	return n.client.Close()
}

// Get implements agent.Net.
func (n *lateNet) Get(ctx context.Context, path string, offset, limit int64) ([]byte, error) {
	c, err := n.open(ctx)
	if err != nil {
		return nil, err
	}
	return c.Get(ctx, path, offset, limit)
}

// Decode implements agent.Net.
func (n *lateNet) Decode(ctx context.Context, payload []byte, s deltas.Segment, base io.ReaderAt) (io.ReadCloser, error) {
	c, err := n.open(ctx)
	if err != nil {
		return nil, err
	}
	return c.Decode(ctx, payload, s, base)
}

// Probe implements agent.Net and health.Network.
func (n *lateNet) Probe(ctx context.Context, p agent.Probe) error {
	c, err := n.open(ctx)
	if err != nil {
		return err
	}
	return c.Probe(ctx, p)
}

// bundle returns agent.Net over an offline bundle. Nobody says when a bundle is done
// with; its connections are closed when the next one comes.
func (n *lateNet) bundle(f *os.File) agent.Net {
	b := &bundleNet{net: n, file: f}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last != nil {
		n.last.close()
	}
	n.last = b
	return b
}

// bundleNet is agent.Net over a bundle, in the same process as the network's.
type bundleNet struct {
	net  *lateNet
	file *os.File

	mu     sync.Mutex
	client *fetcher.Client
}

func (b *bundleNet) open(ctx context.Context) (*fetcher.Client, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client != nil {
		return b.client, nil
	}
	c, err := b.net.open(ctx)
	if err != nil {
		return nil, err
	}
	if b.client, err = c.WithBundle(b.file); err != nil {
		return nil, fmt.Errorf("bundle: %w", errors.Join(agent.ErrUnavailable, err))
	}
	return b.client, nil
}

func (b *bundleNet) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client != nil {
		_ = b.client.Close() // of connections only
		b.client = nil
	}
}

// Get implements agent.Net.
func (b *bundleNet) Get(ctx context.Context, path string, offset, limit int64) ([]byte, error) {
	c, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	return c.Get(ctx, path, offset, limit)
}

// Decode implements agent.Net.
func (b *bundleNet) Decode(ctx context.Context, payload []byte, s deltas.Segment, base io.ReaderAt) (io.ReadCloser, error) {
	return b.net.Decode(ctx, payload, s, base)
}

// Probe implements agent.Net.
func (b *bundleNet) Probe(ctx context.Context, p agent.Probe) error { return b.net.Probe(ctx, p) }
