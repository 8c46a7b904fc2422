package sim

import (
	"bytes"
	"io"
	"slices"
	"sync"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/decode"
)

// Plans remember what the real decoder made of payloads: a pure function of payload,
// segment and what it read of the base. The base is read again each time, in the same
// pieces, and what was remembered counts only if they are the same; so whatever happens to
// a read happens all the same. Many worlds may share Plans. The zero value is ready to use.
type Plans struct {
	mu   sync.Mutex
	made map[asked]*decoded
}

type asked struct {
	payload string
	segment deltas.Segment
	based   bool
}

// decoded is a plan and what was read of the base for it.
type decoded struct {
	plan  []byte
	reads []piece
}

type piece struct {
	at   int64
	data []byte
}

// decode returns what the decoder makes of payload, not to be changed. A nil p remembers
// nothing.
func (p *Plans) decode(d *decode.Decoder, payload []byte, s deltas.Segment, base io.ReaderAt) ([]byte, error) {
	var plan bytes.Buffer
	if p == nil {
		err := d.Decode(payload, s, base, &plan)
		return plan.Bytes(), err
	}
	p.mu.Lock()
	known := p.made[asked{string(payload), s, base != nil}]
	p.mu.Unlock()
	again := &reads{base: base}
	if known != nil && again.alike(known.reads) {
		return known.plan, nil
	}
	key := asked{string(payload), s, base != nil}
	var from io.ReaderAt
	if base != nil {
		from = again
	}
	if err := d.Decode(payload, s, from, &plan); err != nil || again.failed || known != nil {
		return plan.Bytes(), err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made == nil {
		p.made = map[asked]*decoded{}
	}
	p.made[key] = &decoded{plan.Bytes(), again.done}
	return plan.Bytes(), nil
}

// reads notes what is read of a base. What was read by alike is not read a second time.
type reads struct {
	base   io.ReaderAt
	ahead  []piece // read by alike and not yet asked for
	err    error   // of the last one ahead
	done   []piece
	failed bool
}

// alike reads the given pieces and reports whether they are the same.
func (r *reads) alike(want []piece) bool {
	var b []byte
	for i, w := range want {
		b = slices.Grow(b[:0], len(w.data))[:len(w.data)]
		n, err := r.base.ReadAt(b, w.at)
		if err != nil || !bytes.Equal(b, w.data) {
			r.ahead, r.err = append(slices.Clone(want[:i]), piece{w.at, b[:n]}), err
			return false
		}
	}
	return true
}

// ReadAt implements io.ReaderAt.
func (r *reads) ReadAt(b []byte, at int64) (n int, err error) {
	if len(r.ahead) > 0 {
		n = copy(b, r.ahead[0].data)
		if r.ahead = r.ahead[1:]; len(r.ahead) == 0 {
			err = r.err
		}
	} else {
		n, err = r.base.ReadAt(b, at)
	}
	r.failed = r.failed || err != nil
	r.done = append(r.done, piece{at, bytes.Clone(b[:n])})
	return n, err
}
