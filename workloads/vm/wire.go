package vm

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// PortName is what the guest knows the serial port by.
const PortName = "twinkeel"

// OrderFile is where the initramfs has the Order.
const OrderFile = "guest.json"

// Order is what the guest's init does.
type Order struct {
	Argv    []string `json:"argv"`
	Env     []string `json:"env"`
	Cwd     string   `json:"cwd"`
	UID     int      `json:"uid"`
	GID     int      `json:"gid"`
	Name    string   `json:"name"` // of the machine
	Pids    int      `json:"pids"`
	Files   int      `json:"files"`
	Tmp     int64    `json:"tmp"` // bytes of /tmp and /run
	Network bool     `json:"network"`
	Volumes []Volume `json:"volumes"` // in the order of the disks, behind the image's
}

// Volume is a disk of the guest's.
type Volume struct {
	Path string `json:"path"` // where it is mounted
}

// Kind is what a frame says.
type Kind byte

// Kinds of frames. What an operation of the host begins carries its number, and so do all
// frames that belong to it.
const (
	Started Kind = 1 + iota // guest: the application runs, or why not
	Ended                   // guest: it has ended; a JSON Outcome
	Signal                  // host: one byte, the signal's number
	Exec                    // host: a JSON list of words
	Input                   // host: bytes for a command; none: there are no more
	Output                  // guest: bytes of its standard output
	Errors                  // guest: bytes of its standard error
	More                    // both: so many bytes more may be sent; 4 bytes
	Exit                    // guest: the command's exit code, 4 bytes, or why there is none behind them
	Cancel                  // host: end the command
	Probe                   // host: does anybody listen on a port; 2 bytes
	Answer                  // guest: empty, or why nobody does
	last
)

// Limits of what is said.
const (
	MaxFrame = 32 << 10 // bytes of a frame behind its head
	Window   = 64 << 10 // bytes of a stream that may be under way
	weight   = 512      // what each frame counts beside its bytes, so that they are not too many
	headSize = 9
)

// Outcome is how an application ended.
type Outcome struct {
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"` // that killed it
}

// Frame is one message.
type Frame struct {
	Kind Kind
	ID   uint32 // of the operation; 0: it belongs to none
	Data []byte
}

// Read reads one frame.
func Read(r io.Reader) (Frame, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Kind: Kind(head[0]), ID: binary.LittleEndian.Uint32(head[1:])}
	n := binary.LittleEndian.Uint32(head[5:])
	if f.Kind == 0 || f.Kind >= last || n > MaxFrame {
		return Frame{}, fmt.Errorf("frame: got kind %d of %d bytes, want 1 to %d of at most %d", f.Kind, n, last-1, MaxFrame)
	}
	f.Data = make([]byte, n)
	_, err := io.ReadFull(r, f.Data)
	return f, err
}

// Writer writes frames, from several goroutines.
type Writer struct {
	mu sync.Mutex
	w  io.Writer
}

// NewWriter returns what writes frames to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes one frame.
func (w *Writer) Write(f Frame) error {
	if len(f.Data) > MaxFrame {
		return fmt.Errorf("frame: got %d bytes, want at most %d", len(f.Data), MaxFrame)
	}
	b := make([]byte, headSize, headSize+len(f.Data))
	b[0] = byte(f.Kind)
	binary.LittleEndian.PutUint32(b[1:], f.ID)
	binary.LittleEndian.PutUint32(b[5:], uint32(len(f.Data)))
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.w.Write(append(b, f.Data...))
	return err
}

// Number is four bytes as frames hold them.
func Number(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }

// ParseNumber reads what Number wrote, at the beginning of b.
func ParseNumber(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, fmt.Errorf("frame: got %d bytes, want a number of 4", len(b))
	}
	return int(int32(binary.LittleEndian.Uint32(b))), nil
}

// Credit is how much of a stream may still be sent.
type Credit struct {
	mu    sync.Mutex
	more  *sync.Cond
	left  int
	ended bool
}

// NewCredit returns a whole Window.
func NewCredit() *Credit {
	c := &Credit{left: Window}
	c.more = sync.NewCond(&c.mu)
	return c
}

// Take waits until something may be sent, and returns how much of n; 0: nothing any more.
func (c *Credit) Take(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.left <= weight && !c.ended {
		c.more.Wait()
	}
	if c.ended {
		return 0
	}
	n = min(n, c.left-weight, MaxFrame)
	c.left -= n + weight
	return n
}

// Add gives a frame of n bytes back, and never more than a Window in all.
func (c *Credit) Add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = min(Window, c.left+max(n, 0)+weight)
	c.more.Broadcast()
}

// End lets nobody wait any more.
func (c *Credit) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.more.Broadcast()
}

// Send writes b as frames of one stream, as fast as the other side takes them.
func (c *Credit) Send(w *Writer, kind Kind, id uint32, b []byte) error {
	for len(b) > 0 {
		n := c.Take(len(b))
		if n == 0 {
			return io.ErrClosedPipe
		}
		if err := w.Write(Frame{kind, id, b[:n]}); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
