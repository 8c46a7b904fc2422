//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	acts := map[string]func(args []string) error{
		"serve": serve, "sleep": sleep, "exit": exit, "stubborn": stubborn, "talk": talk,
		"fork-bomb": forkBomb, "fork-for-ever": forkForEver, "eat-memory": eatMemory, "fill": fill, "flood": flood, "hang": hang,
		"read": read, "write": write, "links": links, "open-many": openMany, "connect": connect, "processes": processes, "type": typeIn,
	}
	act, ok := acts[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "unknown act")
		os.Exit(2)
	}
	if err := act(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve answers with its first argument; /health says 500 if the second one is bad. It
// takes a socket that it was handed, or port 8080.
func serve(args []string) error {
	var l net.Listener
	var err error
	if os.Getenv("LISTEN_FDS") == "1" && os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		l, err = net.FileListener(os.NewFile(3, "handed over"))
	} else {
		l, err = net.Listen("tcp", ":8080")
	}
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, args[0]) })
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if len(args) > 1 && args[1] == "bad" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	go func() {
		<-stop
		_ = s.Shutdown(context.Background())
		os.Exit(0)
	}()
	fmt.Println("serving", args[0])
	if err := s.Serve(l); err != http.ErrServerClosed {
		return err
	}
	select {}
}

// sleep ends when it is told to.
func sleep([]string) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	fmt.Println("sleeping")
	<-stop
	fmt.Println("woken")
	return nil
}

func exit(args []string) error {
	code, err := strconv.Atoi(args[0])
	if err == nil {
		os.Exit(code)
	}
	return err
}

// stubborn has to be killed. As the first process it waits for those that nobody else
// waits for.
func stubborn([]string) error {
	signal.Ignore(unix.SIGTERM, unix.SIGINT)
	fmt.Println("not going")
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// talk writes so many numbered lines and sleeps, or has to be killed.
func talk(args []string) error {
	n, err := strconv.Atoi(args[0])
	for i := range n {
		fmt.Println("line", i)
	}
	switch {
	case err != nil:
		return err
	case len(args) > 1:
		return stubborn(nil)
	}
	return sleep(nil)
}

// forkBomb starts processes until there is an error, and sleeps, or ends without them.
func forkBomb(args []string) error {
	started := 0
	for {
		if err := exec.Command("/proc/self/exe", "hang").Start(); err != nil {
			fmt.Println("stopped after", started)
			if len(args) > 0 {
				return nil
			}
			return sleep(nil)
		}
		started++
	}
}

// forkForEver starts processes that nothing ties to it, and does not end.
func forkForEver([]string) error {
	for {
		c := exec.Command("/proc/self/exe", "hang")
		c.SysProcAttr = &unix.SysProcAttr{Setsid: true}
		if err := c.Start(); err != nil {
			time.Sleep(time.Millisecond)
		}
	}
}

func eatMemory([]string) error {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b) //lint:ignore SA4010 it is there to take memory
	}
}

// fill writes into a directory until there is an error, and sleeps; or takes what it wrote
// away and ends.
func fill(args []string) error {
	f, err := os.Create(filepath.Join(args[0], "full"))
	b := make([]byte, 64<<10)
	signal.Ignore(unix.SIGXFSZ)
	n := 0
	for err == nil {
		var m int
		m, err = f.Write(b)
		n += m
	}
	fmt.Println("wrote", n, err)
	if len(args) > 1 {
		return os.Remove(f.Name())
	}
	return sleep(nil)
}

func flood([]string) error {
	line := strings.Repeat("x", 1000) + "\n"
	for {
		fmt.Print(line)
	}
}

func hang([]string) error {
	time.Sleep(time.Hour)
	return nil
}

func read(args []string) error {
	b, err := os.ReadFile(args[0])
	fmt.Print(string(b))
	return err
}

func write(args []string) error { return os.WriteFile(args[0], []byte(args[1]), 0o600) }

// links makes a link at its first argument that leads to its second one.
func links(args []string) error { return os.Symlink(args[1], args[0]) }

// openMany opens files until there is an error, and says how many.
func openMany([]string) error {
	for n := 0; ; n++ {
		if _, err := unix.Open("/proc/self/exe", unix.O_RDONLY, 0); err != nil {
			fmt.Println(n, err)
			return nil
		}
	}
}

// connect wants a connection to an address.
func connect(args []string) error {
	c, err := net.DialTimeout(args[0], args[1], time.Second)
	if err == nil {
		fmt.Println("connected")
		err = c.Close()
	}
	return err
}

// processes counts the living that it sees.
func processes([]string) error {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	living := 0
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && !strings.Contains(string(b), ") Z ") {
			living++
		}
	}
	fmt.Println(living)
	return err
}

// typeIn types a line into the terminal that it was given, whether that controls it or not.
func typeIn([]string) error {
	_ = unix.IoctlSetInt(0, unix.TIOCSCTTY, 0)
	for _, c := range []byte("id\n") {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&c))); e != 0 {
			return e
		}
	}
	return nil
}
