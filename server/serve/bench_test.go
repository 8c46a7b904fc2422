package serve_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twinkeel/twinkeel/server/serve"
)

// serveEnv names the repository that the test binary, started again, serves.
const serveEnv = "TWINKEEL_BENCH_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		if err := serveUntilClosed(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveUntilClosed prints its address and serves until stdin ends.
func serveUntilClosed(dir string) error {
	s, err := serve.Open(dir, serve.Options{})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return s.Serve(ctx, ln)
}

// BenchmarkPollWithoutNews measures how many polls that find nothing new one CPU-second
// of the server answers, over keep-alive connections on loopback. The server is a
// process of its own, so that the cost of the clients is not counted.
func BenchmarkPollWithoutNews(b *testing.B) {
	for _, conns := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) { benchmarkPoll(b, conns) })
	}
}

func benchmarkPoll(b *testing.B, conns int) {
	r := newRepo(b, serve.Options{})
	etag := r.ask("GET", "/metadata/timestamp.json").Header().Get("ETag")
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), serveEnv+"="+r.dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}()
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	request := "GET /metadata/timestamp.json HTTP/1.1\r\nHost: updates.example.net\r\nUser-Agent: twinkeel/1\r\nAccept-Encoding: identity\r\nIf-None-Match: " + etag + "\r\n\r\n"
	left := atomic.Int64{}
	left.Store(int64(b.N))
	before := cpuTicks(b, cmd.Process.Pid)
	b.ResetTimer()
	var group sync.WaitGroup
	for range conns {
		conn, err := net.Dial("tcp", strings.TrimSpace(address))
		if err != nil {
			b.Fatal(err)
		}
		group.Go(func() {
			defer func() { _ = conn.Close() }()
			if err := pollLoop(conn, request, &left); err != nil {
				b.Error(err)
			}
		})
	}
	group.Wait()
	b.StopTimer()
	if ticks := cpuTicks(b, cmd.Process.Pid) - before; ticks > 0 {
		const ticksPerSecond = 100 // USER_HZ
		b.ReportMetric(float64(b.N)*ticksPerSecond/float64(ticks), "polls/cpu-s")
	}
}

func pollLoop(conn net.Conn, request string, left *atomic.Int64) error {
	buf := make([]byte, 4096)
	have := 0
	for left.Add(-1) >= 0 {
		if _, err := io.WriteString(conn, request); err != nil {
			return err
		}
		for {
			n, err := conn.Read(buf[have:])
			if err != nil {
				return err
			}
			if have += n; strings.HasSuffix(string(buf[:have]), "\r\n\r\n") {
				break
			}
		}
		if !strings.HasPrefix(string(buf[:have]), "HTTP/1.1 304 ") {
			return fmt.Errorf("got %q, want 304", buf[:have])
		}
		have = 0
	}
	return nil
}

// cpuTicks returns the CPU time, user and system, that a process has used.
func cpuTicks(b *testing.B, pid int) int64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	sum := int64(0)
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	return sum
}

// BenchmarkPollHandler measures the handler alone, and its allocations.
func BenchmarkPollHandler(b *testing.B) {
	r := newRepo(b, serve.Options{})
	etag := r.ask("GET", "/metadata/timestamp.json").Header().Get("ETag")
	req := newRequest(etag)
	w := &nullWriter{header: map[string][]string{}}
	b.ReportAllocs()
	for b.Loop() {
		r.ServeHTTP(w, req)
	}
	if w.status != 304 {
		b.Fatalf("got %d, want 304", w.status)
	}
}

func newRequest(etag string) *http.Request {
	req := httptest.NewRequest(http.MethodGet, "http://x/metadata/timestamp.json", nil)
	req.Header.Set("If-None-Match", etag)
	return req
}

// nullWriter is a ResponseWriter that keeps the status only.
type nullWriter struct {
	header http.Header
	status int
}

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) WriteHeader(status int)      { w.status = status }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
