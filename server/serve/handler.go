package serve

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// Header values that never change, as slices so that no request allocates them.
var (
	cacheMinute  = []string{"public, max-age=60"}
	cacheForever = []string{"public, max-age=31536000, immutable"}
	cacheNever   = []string{"no-store"}
	typeJSON     = []string{"application/json"}
	typeBinary   = []string{"application/octet-stream"}
	typeText     = []string{"text/plain; charset=utf-8"}
	noSniff      = []string{"nosniff"}
	acceptRanges = []string{"bytes"}
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	if r.URL.Path == "/"+timestampPath && isRead(r.Method) {
		s.poll(w, r)
		return
	}
	p := find(r.URL.Path)
	start := time.Now()
	reply := &reply{ResponseWriter: w, control: http.NewResponseController(w)}
	s.answer(reply, r, p)
	s.metrics.count(p.kind, reply.status, reply.bytes)
	level := slog.LevelInfo
	if p.kind == kindHealth || p.kind == kindMetrics {
		level = slog.LevelDebug
	}
	s.logRequest(r, level, reply.status, reply.bytes, start)
}

func (s *Server) logRequest(r *http.Request, level slog.Level, status int, bytes int64, start time.Time) {
	if !s.options.Log.Enabled(r.Context(), level) {
		return
	}
	s.options.Log.LogAttrs(r.Context(), level, "request",
		slog.String("client", r.RemoteAddr), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", status), slog.Int64("bytes", bytes), slog.Duration("took", time.Since(start)))
}

func isRead(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// poll answers for timestamp.json, nearly always with "not modified". It makes no
// allocation of its own.
func (s *Server) poll(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := s.stamp.get()
	status, sent := http.StatusOK, 0
	h := w.Header()
	switch {
	case c.err != nil:
		status = statusOf(c.err)
		h["Cache-Control"] = cacheNever
		w.WriteHeader(status)
	case matches(r.Header["If-None-Match"], c.tag):
		status = http.StatusNotModified
		h["Etag"], h["Cache-Control"] = c.etag, cacheMinute
		w.WriteHeader(status)
	default:
		h["Etag"], h["Cache-Control"], h["Content-Type"], h["Content-Length"] = c.etag, cacheMinute, typeJSON, c.length
		h["X-Content-Type-Options"] = noSniff
		w.WriteHeader(status)
		if r.Method == http.MethodGet {
			sent, _ = w.Write(c.body)
		}
	}
	s.metrics.count(kindTimestamp, status, int64(sent))
	level := slog.LevelInfo
	if status == http.StatusNotModified {
		level = slog.LevelDebug
	}
	s.logRequest(r, level, status, int64(sent), start)
}

// matches reports whether an If-None-Match header names tag. The comparison is the weak
// one that RFC 9110 wants here.
func matches(header []string, tag string) bool {
	for _, list := range header {
		if list == tag {
			return true
		}
		for one := range strings.SplitSeq(list, ",") {
			one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
			if one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}

func (s *Server) answer(w *reply, r *http.Request, p place) {
	h := w.Header()
	h["X-Content-Type-Options"] = noSniff
	if !isRead(r.Method) {
		h.Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	switch p.kind {
	case kindHealth:
		s.health(w)
	case kindMetrics:
		h["Cache-Control"] = cacheNever
		s.metrics.handler.ServeHTTP(w, r)
	case kindOther:
		refuse(w, http.StatusNotFound)
	default:
		s.file(w, r, p)
	}
}

func refuse(w http.ResponseWriter, status int) {
	w.Header()["Cache-Control"] = cacheNever
	http.Error(w, http.StatusText(status), status)
}

func (s *Server) health(w http.ResponseWriter) {
	h := w.Header()
	h["Cache-Control"], h["Content-Type"] = cacheNever, typeText
	if err := s.stamp.health(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, err)
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

// file sends a file that never changes, or one of the log that may.
func (s *Server) file(w *reply, r *http.Request, p place) {
	f, info, err := openRegular(s.root, p.name)
	if err != nil {
		status := statusOf(err)
		if status == http.StatusInternalServerError {
			s.options.Log.Error("file cannot be read", "path", p.name, "error", err)
		}
		refuse(w, status)
		return
	}
	defer func() { _ = f.Close() }()
	h := w.Header()
	h["Cache-Control"], h["Content-Type"], h["Accept-Ranges"] = cacheForever, typeJSON, acceptRanges
	switch p.kind {
	case kindBlob:
		h["Content-Type"] = typeBinary
	case kindLog:
		h["Content-Type"] = typeBinary
		if !isFullTile(p.name) {
			// The checkpoint grows; the rest may change when a log begins anew.
			h["Cache-Control"] = cacheMinute
		}
	}
	tag := p.digest
	if tag == "" {
		tag = fmt.Sprintf("%x-%x", info.Size(), info.ModTime().UnixNano())
	}
	h["Etag"] = []string{`"` + tag + `"`}
	// One range is what hosts ask for; a list of them is work for nothing, and a server
	// may always send the whole file.
	if strings.Contains(r.Header.Get("Range"), ",") {
		r.Header.Del("Range")
	}
	http.ServeContent(w, r, "", info.ModTime(), f)
}

// errIrregular is met where a repository holds anything but a file.
var errIrregular = errors.New("not a regular file")

// openRegular opens a file of the repository. It never follows a link in the last
// element, nor any that leads out of the directory, and never waits for a pipe.
func openRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errIrregular
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	opened, err := f.Stat()
	if err == nil && !os.SameFile(info, opened) {
		err = errIrregular
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, opened, nil
}

// statusOf hides what is there from what may be seen: only a fault of the server's own
// is called one.
func statusOf(err error) int {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errIrregular) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG) {
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}
