package sim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/release"
)

// NetFault is something that a server, the way to it, or a fetcher in wrong hands does.
type NetFault int

// The faults of one answer.
const (
	NoFault  NetFault = iota
	Drop              // no connection
	Truncate          // the second half is missing
	Flip              // one bit is wrong
	Stall             // nothing comes for ten minutes, then the connection ends
	Replay            // the file as the first repository had it
	Endless           // as many bytes as are allowed, of noise
	Page              // an HTML page, with success
	Gone              // there is no such file
	Redirect          // the content of another file
	netFaults
)

// String names the fault.
func (f NetFault) String() string {
	return [...]string{"none", "drop", "truncate", "flip", "stall", "replay", "endless", "page", "gone", "redirect"}[f]
}

// NetFaults lists all faults.
func NetFaults() []NetFault {
	var all []NetFault
	for f := Drop; f < netFaults; f++ {
		all = append(all, f)
	}
	return all
}

// Net serves a static repository from memory and decodes with the real decoder. It
// implements agent.Net.
type Net struct {
	// Fault, if set, chooses what goes wrong with the n-th request, counted from 1.
	// Decodings are requests, too; their path is "decode".
	Fault func(n int, path string) NetFault
	// Reached, if set, answers network probes.
	Reached func(agent.Probe) error
	// Plans may be shared with other worlds; nil: what was decoded is decoded again.
	Plans *Plans
	// Searched may be shared with other worlds, too.
	Searched *Searched

	w        *World
	files    map[string][]byte
	first    map[string][]byte // the repository as it was first served
	requests int
	served   int64
	decoder  decode.Decoder
}

// NewNet returns a network without a repository.
func (w *World) NewNet() *Net { return &Net{w: w} }

// Serve replaces the repository: path to content, as on a static file server.
func (n *Net) Serve(files map[string][]byte) {
	if n.first == nil {
		n.first = files
	}
	n.files = files
}

// Requests is the number of requests so far.
func (n *Net) Requests() int { return n.requests }

// Served is the number of bytes sent so far.
func (n *Net) Served() int64 { return n.served }

// unavailable is an error that says nothing about the content.
func unavailable(path, why string) error {
	return fmt.Errorf("get %s: %s: %w", path, why, agent.ErrUnavailable)
}

// Get implements agent.Net.
func (n *Net) Get(ctx context.Context, path string, offset, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := n.w.call(op{verb: "get", file: path, off: offset, n: int(limit)}); err != nil {
		return nil, fmt.Errorf("%w: %w", agent.ErrUnavailable, err)
	}
	fault := n.fault(path)
	files := n.files
	switch fault {
	case Drop:
		return nil, unavailable(path, "connection refused")
	case Stall:
		n.w.Pass(10 * time.Minute)
		return nil, unavailable(path, "too slow")
	case Endless:
		noise := make([]byte, min(limit, 1<<20))
		n.w.scramble(noise[:min(len(noise), 4096)])
		return noise, nil
	case Page:
		return []byte("<html><body>Please log in to this network</body></html>")[:min(limit, 40)], nil
	case Replay:
		files = n.first
	case Redirect:
		path = n.other(path)
	}
	b, ok := files[path]
	if !ok || fault == Gone {
		return nil, fmt.Errorf("get %s: %w", path, fs.ErrNotExist)
	}
	if offset < 0 || offset > int64(len(b)) {
		return nil, fmt.Errorf("get %s: offset %d is past its %d bytes", path, offset, len(b))
	}
	b = slices.Clip(b[offset:][:min(limit, int64(len(b))-offset)])
	n.served += int64(len(b))
	if n.w.Quiet && fault == NoFault {
		return b, nil // as Dir.Read does
	}
	return n.spoil(fault, slices.Clone(b)), nil
}

// other returns the path of another file.
func (n *Net) other(path string) string {
	paths := slices.Sorted(maps.Keys(n.files))
	i, _ := slices.BinarySearch(paths, path)
	return paths[(i+1+n.w.rng.IntN(len(paths)))%len(paths)]
}

// fault chooses what goes wrong with this request.
func (n *Net) fault(path string) NetFault {
	n.requests++
	if n.Fault == nil {
		return NoFault
	}
	f := n.Fault(n.requests, path)
	if f != NoFault {
		n.w.note("%s: %s", path, f)
	}
	return f
}

func (n *Net) spoil(f NetFault, b []byte) []byte {
	switch {
	case f == Truncate:
		return b[:len(b)/2]
	case f == Flip && len(b) > 0:
		b[n.w.rng.IntN(len(b))] ^= 1 << n.w.rng.IntN(8)
	}
	return b
}

// Decode implements agent.Net. A faulty answer is what a fetcher that was taken over
// may send.
func (n *Net) Decode(ctx context.Context, payload []byte, s deltas.Segment, base io.ReaderAt) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := n.w.call(op{verb: "decode", off: s.Offset, n: int(s.Length)}); err != nil {
		return nil, err
	}
	fault := n.fault("decode")
	if base != nil {
		base = cached{base}
	}
	plan, err := n.Plans.decode(&n.decoder, payload, s, base)
	if err != nil {
		return nil, err
	}
	switch fault {
	case Drop, Stall, Gone, Redirect:
		return nil, unavailable("decode", "the fetcher has died")
	case Endless, Page:
		noise := make([]byte, len(plan)+4096)
		n.w.scramble(noise)
		return io.NopCloser(bytes.NewReader(noise)), nil
	}
	if fault != NoFault {
		plan = n.spoil(fault, slices.Clone(plan))
	}
	return io.NopCloser(bytes.NewReader(plan)), nil
}

// cached is a base as the fetcher reads it: by a descriptor and through the page cache, and
// so at any offset, while the device is read in whole blocks.
type cached struct{ base io.ReaderAt }

// ReadAt implements io.ReaderAt.
func (c cached) ReadAt(b []byte, off int64) (int, error) {
	skip := int(off % release.BlockSize)
	whole := (skip + len(b) + release.BlockSize - 1) / release.BlockSize * release.BlockSize
	if whole == len(b) {
		return c.base.ReadAt(b, off)
	}
	blocks := make([]byte, whole)
	n, err := c.base.ReadAt(blocks, off-int64(skip))
	return copy(b, blocks[min(skip, n):n]), err
}

// Probe implements agent.Net.
func (n *Net) Probe(ctx context.Context, p agent.Probe) error {
	if err := n.w.call(op{verb: "probe", name: p.Name}); err != nil {
		return err
	}
	if n.Reached == nil {
		return nil
	}
	return n.Reached(p)
}
