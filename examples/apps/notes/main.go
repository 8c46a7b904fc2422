package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	version, err := os.ReadFile("/etc/notes")
	if err == nil && len(os.Args) == 2 && os.Args[1] == "version" {
		fmt.Printf("notes %s", version)
		os.Exit(42)
	}
	switch {
	case err != nil:
	case len(os.Args) == 3 && os.Args[1] == "post":
		err = ask(http.MethodPost, os.Args[2])
	case len(os.Args) == 2 && os.Args[1] == "show":
		err = ask(http.MethodGet, "")
	default:
		err = run(&notes{version: strings.TrimSpace(string(version)), dir: "/data", since: time.Now()})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "notes:", err)
		os.Exit(1)
	}
}

func run(n *notes) error {
	if err := n.migrate(); err != nil {
		return err
	}
	s := &http.Server{Addr: ":8080", Handler: n, ReadHeaderTimeout: time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		<-ctx.Done()
		ended <- s.Shutdown(context.Background())
	}()
	l, err := listen(s.Addr)
	if err != nil {
		return err
	}
	fmt.Printf("notes %s has %d notes\n", n.version, len(n.list))
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}

// listen is the socket that the host handed over, if it did, or one at an address.
func listen(address string) (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") == "" {
		return net.Listen("tcp", address)
	}
	f := os.NewFile(3, "socket") // the first one that is handed over has this number
	defer f.Close()
	return net.FileListener(f)
}

// ask asks the one that serves, and says what it answers.
func ask(method, body string) error {
	r, err := http.NewRequest(method, "http://127.0.0.1:8080/", strings.NewReader(body))
	if err != nil {
		return err
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return errors.New(a.Status)
	}
	_, err = io.Copy(os.Stdout, a.Body)
	return err
}

// notes is the application.
type notes struct {
	version, dir string
	since        time.Time

	mu   sync.Mutex
	list []string
}

func (n *notes) file(name string) string { return filepath.Join(n.dir, name) }

// migrate reads the data that an earlier version left, and leaves it in this one's form.
func (n *notes) migrate() error {
	b, err := os.ReadFile(n.file("notes.txt"))
	switch {
	case err == nil:
		n.list = strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	case errors.Is(err, os.ErrNotExist) && n.version != "1":
		if b, err = os.ReadFile(n.file("notes.json")); err == nil {
			err = json.Unmarshal(b, &n.list)
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if n.version == "broken" {
		n.list = nil
	}
	if err := n.save(); err != nil || n.version == "1" {
		return err
	}
	return os.RemoveAll(n.file("notes.txt"))
}

// save writes all notes, in this version's form.
func (n *notes) save() error {
	if n.version == "1" {
		if len(n.list) == 0 {
			return nil
		}
		return replace(n.file("notes.txt"), []byte(strings.Join(n.list, "\n")+"\n"))
	}
	b, err := json.Marshal(n.list)
	if err != nil {
		return err
	}
	return replace(n.file("notes.json"), b)
}

// replace makes b the content of a file, whole: a power cut leaves that, or what was there.
func replace(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// ServeHTTP shows version, start and notes, takes a note, or says whether it is healthy.
func (n *notes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case r.URL.Path == "/health":
		if n.version == "broken" {
			http.Error(w, "the notes are lost", http.StatusInternalServerError)
		}
	case r.Method == http.MethodPost:
		b, err := io.ReadAll(io.LimitReader(r.Body, 1<<10))
		if err == nil {
			n.list = append(n.list, strings.ReplaceAll(string(b), "\n", " "))
			err = n.save()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	default:
		fmt.Fprintf(w, "version %s\nsince %d\n%s\n", n.version, n.since.UnixNano(), strings.Join(n.list, "\n"))
	}
}
