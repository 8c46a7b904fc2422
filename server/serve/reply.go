package serve

import (
	"io"
	"net/http"
	"time"
)

// reply counts what is sent, and gives each chunk its own deadline, so that a large
// file may take long but never stand still.
type reply struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int
	bytes   int64
}

// WriteHeader implements http.ResponseWriter.
func (w *reply) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *reply) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	done := 0
	for {
		n := min(len(p)-done, chunk)
		w.extend()
		m, err := w.ResponseWriter.Write(p[done : done+n])
		done += m
		w.bytes += int64(m)
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

// ReadFrom implements io.ReaderFrom, which is what lets the kernel send a file's bytes
// without a detour through this process. http.ServeContent hands over an
// *io.LimitedReader of the file; the kernel's way is open only to such a one.
func (w *reply) ReadFrom(r io.Reader) (int64, error) {
	to, direct := w.ResponseWriter.(io.ReaderFrom)
	whole, bounded := r.(*io.LimitedReader)
	if !direct || !bounded {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	if w.status == 0 {
		w.status = http.StatusOK
	}
	done := int64(0)
	for whole.N > 0 {
		part := &io.LimitedReader{R: whole.R, N: min(whole.N, chunk)}
		w.extend()
		n, err := to.ReadFrom(part)
		done += n
		whole.N -= n
		w.bytes += n
		if err != nil || n == 0 {
			return done, err
		}
	}
	return done, nil
}

// extend gives the next chunk its time. A writer without deadlines is one of a test.
func (w *reply) extend() { _ = w.control.SetWriteDeadline(time.Now().Add(chunkTimeout)) }

// Unwrap is for http.ResponseController.
func (w *reply) Unwrap() http.ResponseWriter { return w.ResponseWriter }
