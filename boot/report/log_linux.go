package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Limits, in bytes but for the last.
const (
	MaxSaved   = 64 << 10 // of a log that is kept
	MaxShown   = 4 << 10  // of one that is shown
	maxLine    = 400      // of one line that is shown
	maxRecord  = 8 << 10  // of one record of the kernel; its own limit
	maxRecords = 1 << 20  // that are read, in case they come as fast
)

// KernelLog returns the end of the kernel's log, a line for each record, from its device.
// Source of the format: linux/Documentation/ABI/testing/dev-kmsg.
func KernelLog(device string) ([]byte, error) {
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("kernel's log %s: %w", device, err)
	}
	defer unix.Close(fd)
	var log []byte
	record := make([]byte, maxRecord)
	for range maxRecords {
		n, err := unix.Read(fd, record)
		switch {
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR):
			continue // records were dropped before they could be read
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0:
			return tail(log, MaxSaved), nil
		case err != nil:
			return nil, fmt.Errorf("kernel's log %s: %w", device, err)
		}
		log = appendRecord(log, record[:n])
		if len(log) > 4*MaxSaved {
			log = append(log[:0], tail(log, MaxSaved)...)
		}
	}
	return tail(log, MaxSaved), nil
}

// appendRecord appends a record as dmesg shows it: the seconds, and the text. What the
// kernel adds for programs, on lines of their own, is left out.
func appendRecord(log, record []byte) []byte {
	head, text, ok := bytes.Cut(record, []byte(";"))
	fields := bytes.Split(head, []byte(","))
	if !ok || len(fields) < 3 {
		return log
	}
	at, err := strconv.ParseInt(string(fields[2]), 10, 64)
	if err != nil || at < 0 {
		return log
	}
	text, _, _ = bytes.Cut(text, []byte("\n"))
	log = fmt.Appendf(log, "[%5d.%06d] ", at/1e6, at%1e6)
	return append(append(log, text...), '\n')
}

// tail returns the last lines of b, at most limit bytes of them.
func tail(b []byte, limit int) []byte {
	if len(b) <= limit {
		return b
	}
	// One byte more, so that a line that just fits stays.
	b = b[len(b)-limit-1:]
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[i+1:]
	}
	return b[1:]
}

// readTail reads at most limit bytes from the end of r, which has size bytes.
func readTail(r io.ReaderAt, size, limit int64) ([]byte, error) {
	from := max(size-limit, 0)
	b := make([]byte, min(size, limit))
	n, err := r.ReadAt(b, from)
	if errors.Is(err, io.EOF) {
		err = nil // it has become shorter meanwhile
	}
	return b[:n], err
}

// since is what is left of a duration when people read it.
func since(d time.Duration) string { return d.Round(time.Second).String() }
