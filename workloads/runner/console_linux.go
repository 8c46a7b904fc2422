package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// pipes stand between readers and writers of this process and descriptors of another.
type pipes struct {
	theirs []*os.File // ends that were given away
	ours   []*os.File
	output sync.WaitGroup
}

// from returns a descriptor that reads what r does. A file is its own.
func (p *pipes) from(r io.Reader) (*os.File, error) {
	if f, ok := r.(*os.File); ok {
		return f, nil
	}
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.theirs = append(p.theirs, in)
	go func() { // until the command no longer reads, or r ends
		_, _ = io.Copy(out, r)
		_ = out.Close()
	}()
	return in, nil
}

// to returns a descriptor whose bytes go to w. A file is its own.
func (p *pipes) to(w io.Writer) (*os.File, error) {
	if f, ok := w.(*os.File); ok {
		return f, nil
	}
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.theirs, p.ours = append(p.theirs, out), append(p.ours, in)
	p.output.Go(func() { _, _ = io.Copy(w, in) })
	return out, nil
}

// lateOutput is how long a command's children may hold its output after its end.
const lateOutput = time.Second

// finish takes what is still on its way.
func (p *pipes) finish() {
	for _, f := range p.theirs {
		_ = f.Close()
	}
	p.theirs = nil
	late := time.AfterFunc(lateOutput, func() {
		for _, f := range p.ours {
			_ = f.SetReadDeadline(time.Now())
		}
	})
	defer late.Stop()
	p.output.Wait()
}

func (p *pipes) close() {
	for _, f := range append(p.theirs, p.ours...) {
		_ = f.Close()
	}
}

// followPause is how often a log is looked at.
const followPause = 200 * time.Millisecond

// Logs implements workloads.Console.
func (r *Runner) Logs(ctx context.Context, name string, count int, follow bool, w io.Writer) error {
	if err := r.logs(ctx, r.log(name), count, follow, w); err != nil {
		return fmt.Errorf("log of app %s: %w", name, err)
	}
	return nil
}

func (r *Runner) logs(ctx context.Context, path string, count int, follow bool, w io.Writer) error {
	older, err := tail(path+".1", maxTail)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it never said a word
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	newer, err := tailOf(f, maxTail)
	if err != nil {
		return err
	}
	if len(newer) == maxTail {
		older = nil // there is more between them
	}
	if _, err := w.Write(lastLines(append(older, newer...), count)); err != nil {
		return err
	}
	for follow {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followPause):
		}
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		// Another file under the name: the rest of this one has been written out.
		now, err1 := os.Stat(path)
		held, err2 := f.Stat()
		if err1 == nil && err2 == nil && !os.SameFile(now, held) {
			next, err := os.Open(path)
			if err != nil {
				continue
			}
			_ = f.Close()
			f = next
		}
	}
	return nil
}

// maxTail is how much of each of the two files is read: an application may keep gigabytes.
const maxTail = 4 << 20

// tail is the end of a file; nothing of one that is not there.
func tail(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return tailOf(f, most)
}

// tailOf reads the last bytes of a file, and leaves it at its end.
func tailOf(f *os.File, most int64) ([]byte, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(max(0, size-most), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// lastLines are the last count lines of b, or all if count is 0 or less. The last one may
// lack its end.
func lastLines(b []byte, count int) []byte {
	if count <= 0 {
		return b
	}
	at := len(bytes.TrimSuffix(b, []byte{'\n'}))
	for range count {
		if at = bytes.LastIndexByte(b[:at], '\n'); at < 0 {
			return b
		}
	}
	return b[at+1:]
}
