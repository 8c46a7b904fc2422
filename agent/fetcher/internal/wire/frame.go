package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Kind says what a frame's payload is.
type Kind byte

// Kinds of frames.
const (
	KindOptions Kind = 'O' // to the fetcher: Options; one descriptor if Options.Bundle
	KindRequest Kind = 'Q' // to the fetcher: Request; one descriptor if Request.Base
	KindPayload Kind = 'P' // to the fetcher: a part of what a decode request decodes
	KindLimits  Kind = 'L' // to the fetcher, first on a control connection: Limits
	KindConn    Kind = 'C' // to the fetcher, on a control connection: one more connection
	KindData    Kind = 'D' // from the fetcher: a part of the answer, never empty
	KindAlive   Kind = 'A' // from the fetcher: still at work, nothing to say
	KindEnd     Kind = 'E' // from the fetcher: End
)

const (
	// HeaderSize is the length of a frame's header in bytes.
	HeaderSize = 8
	// MaxChunk is the greatest length of a Payload or Data frame in bytes.
	MaxChunk = 256 << 10
	// maxFiles is the greatest number of descriptors that come with a frame.
	maxFiles = 1
)

// limits holds the greatest length of each kind's payload and its descriptors.
var limits = map[Kind]struct {
	length int
	files  int
}{
	KindOptions: {512 << 10, 1},
	KindRequest: {16 << 10, 1},
	KindPayload: {MaxChunk, 0},
	KindLimits:  {1 << 10, 0},
	KindConn:    {0, 1},
	KindData:    {MaxChunk, 0},
	KindAlive:   {0, 0},
	KindEnd:     {4 << 10, 0},
}

// Header is a frame's header.
type Header struct {
	Kind   Kind
	Files  int // descriptors that come with the header
	Length int // of the payload, bytes
}

// ParseHeader reads a header and checks it against the limits of its kind.
func ParseHeader(b [HeaderSize]byte) (Header, error) {
	h := Header{Kind: Kind(b[0]), Files: int(b[1])}
	limit, known := limits[h.Kind]
	length := binary.BigEndian.Uint32(b[4:])
	switch {
	case !known:
		return Header{}, fmt.Errorf("frame: got kind %#02x, want a known one", b[0])
	case b[2] != 0 || b[3] != 0:
		return Header{}, fmt.Errorf("frame %c: reserved bytes are not zero", h.Kind)
	case h.Files > limit.files:
		return Header{}, fmt.Errorf("frame %c: got %d descriptors, want at most %d", h.Kind, h.Files, limit.files)
	case length > uint32(limit.length):
		return Header{}, fmt.Errorf("frame %c: got length %d, want at most %d", h.Kind, length, limit.length)
	case length == 0 && h.Kind == KindData:
		return Header{}, errors.New("frame D: got no bytes, want at least one")
	}
	h.Length = int(length)
	return h, nil
}

// Bytes is the inverse of ParseHeader.
func (h Header) Bytes() [HeaderSize]byte {
	b := [HeaderSize]byte{byte(h.Kind), byte(h.Files)}
	binary.BigEndian.PutUint32(b[4:], uint32(h.Length))
	return b
}

// ReadHeader reads a header from r. Descriptors that came with it are not taken: the
// kernel closes them. A clean end of r is io.EOF.
func ReadHeader(r io.Reader) (Header, error) {
	var b [HeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Header{}, err
	}
	return ParseHeader(b)
}

// ReceiveHeader reads a header and the descriptor that came with it, if any. The
// caller closes it.
func ReceiveHeader(c *net.UnixConn) (Header, *os.File, error) {
	var b [HeaderSize]byte
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := c.ReadMsgUnix(b[:], oob)
	file, ferr := takeFile(oob[:oobn], flags)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err == nil {
		err = ferr
	}
	if err == nil && n < len(b) {
		_, err = io.ReadFull(c, b[n:])
	}
	var h Header
	if err == nil {
		h, err = ParseHeader(b)
	}
	if err == nil && (file != nil) != (h.Files == 1) {
		err = fmt.Errorf("frame %c: the header names %d descriptors, which is not what came", h.Kind, h.Files)
	}
	if err != nil {
		if file != nil {
			_ = file.Close()
		}
		return Header{}, nil, err
	}
	return h, file, nil
}

// takeFile returns the one descriptor of a control message and closes what is too many.
func takeFile(oob []byte, flags int) (*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("frame: control message: %w", err)
	}
	var fds []int
	for i := range messages {
		got, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, fmt.Errorf("frame: control message: %w", err)
		}
		fds = append(fds, got...)
	}
	if len(fds) != 1 || flags&unix.MSG_CTRUNC != 0 {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("frame: got %d descriptors, want at most %d", len(fds), maxFiles)
	}
	return os.NewFile(uintptr(fds[0]), "received"), nil
}

// Send writes one frame. file, if not nil, goes along; the caller still closes it.
// It makes one write of the whole frame where no descriptor is sent.
func Send(c *net.UnixConn, kind Kind, payload []byte, file *os.File) error {
	h := Header{Kind: kind, Length: len(payload)}
	if file == nil {
		b := h.Bytes()
		buffers := net.Buffers{b[:], payload}
		_, err := buffers.WriteTo(c)
		return err
	}
	h.Files = 1
	b := h.Bytes()
	// SyscallConn and not Fd: the latter would make the descriptor blocking.
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var werr error
	err = raw.Control(func(fd uintptr) {
		var n int
		n, _, werr = c.WriteMsgUnix(b[:], unix.UnixRights(int(fd)), nil)
		if werr == nil && n != len(b) {
			werr = io.ErrShortWrite
		}
	})
	if err == nil {
		err = werr
	}
	if err == nil && len(payload) > 0 {
		_, err = c.Write(payload)
	}
	return err
}
