package guest

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads/stray"
	"github.com/twinkeel/twinkeel/workloads/vm"
)

// session is what the init of a machine keeps.
type session struct {
	order vm.Order
	say   func(string, ...any)
	out   *vm.Writer

	mu       sync.Mutex
	children map[int]chan unix.WaitStatus // of processes that somebody waits for
	commands map[uint32]*command
	app      int // the application's process
	ended    chan unix.WaitStatus
}

// start starts the application.
func (s *session) start() error {
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := raw(console); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	// A pipe: what writes to a terminal behaves otherwise.
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	go func() { _, _ = io.Copy(console, in) }()
	null, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	go s.reap()
	s.app, s.ended, err = s.spawn(s.order.Argv, s.order.Env, null, out, out)
	return errors.Join(err, null.Close(), out.Close())
}

// raw keeps the console from changing what is written to it.
func raw(console *os.File) error {
	t, err := unix.IoctlGetTermios(int(console.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.Oflag &^= unix.OPOST
	return unix.IoctlSetTermios(int(console.Fd()), unix.TCSETS, t)
}

// spawn starts a command as the application's user, and returns when it is executed.
func (s *session) spawn(argv, env []string, in, out, errs *os.File) (int, chan unix.WaitStatus, error) {
	o := s.order
	o.Argv, o.Env = argv, env
	b, err := json.Marshal(&o)
	if err != nil {
		return 0, nil, err
	}
	orderIn, orderOut, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	reportIn, reportOut, err := os.Pipe()
	if err != nil {
		return 0, nil, errors.Join(err, orderIn.Close(), orderOut.Close())
	}
	s.mu.Lock() // nobody reaps it before it is known
	p, err := os.StartProcess("/proc/self/exe", []string{StageName}, &os.ProcAttr{
		Dir: "/", Files: []*os.File{in, out, errs, orderIn, reportOut}, Sys: &unix.SysProcAttr{Setsid: true},
	})
	var done chan unix.WaitStatus
	if err == nil {
		done = make(chan unix.WaitStatus, 1)
		s.children[p.Pid] = done
	}
	s.mu.Unlock()
	err = errors.Join(err, orderIn.Close(), reportOut.Close())
	if err == nil {
		_, err = orderOut.Write(b)
	}
	err = errors.Join(err, orderOut.Close())
	if err == nil {
		var said []byte
		if said, err = io.ReadAll(io.LimitReader(reportIn, vm.MaxFrame)); err == nil && len(said) > 0 {
			err = errors.New(string(said))
		}
	}
	if err = errors.Join(err, reportIn.Close()); err != nil {
		return 0, nil, err
	}
	return p.Pid, done, nil
}

// reap waits for every process: the first one is the parent of all that lost theirs.
func (s *session) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.ECHILD) {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil || !status.Exited() && !status.Signaled() {
			continue
		}
		s.mu.Lock()
		if done, ok := s.children[pid]; ok {
			done <- status
			delete(s.children, pid)
		}
		s.mu.Unlock()
	}
}

// finish waits for the application's end, makes its disks whole, and says how it ended.
func (s *session) finish() error {
	status := <-s.ended
	time.Sleep(20 * time.Millisecond) // its last words are on their way to the console
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		s.say("end what is left: %v", err)
	}
	for i := len(s.order.Volumes) - 1; i >= 0; i-- {
		at := root + s.order.Volumes[i].Path
		if err := await("the end of "+at, func() bool { return unix.Unmount(at, 0) == nil }); err != nil {
			s.say("%v", err)
		}
	}
	unix.Sync()
	b, err := json.Marshal(vm.Outcome{Code: max(status.ExitStatus(), 0), Signal: int(max(status.Signal(), 0))})
	if err != nil {
		return err
	}
	return s.out.Write(vm.Frame{Kind: vm.Ended, Data: b})
}

// mark is the variable that tells a command's processes from the application's.
func mark(id uint32) string { return "TWINKEEL_EXEC=" + strconv.FormatUint(uint64(id), 10) }

// command is one that the host runs.
type command struct {
	input  chan []byte // nil: there is no more
	output *vm.Credit
}

// serve does what the host asks for.
func (s *session) serve(port io.Reader) error {
	r := bufio.NewReader(port)
	for {
		f, err := vm.Read(r)
		if err != nil {
			return err
		}
		s.mu.Lock()
		c := s.commands[f.ID]
		s.mu.Unlock()
		switch f.Kind {
		case vm.Signal:
			if len(f.Data) == 1 {
				_ = unix.Kill(s.app, unix.Signal(f.Data[0]))
			}
		case vm.Exec:
			go s.exec(f)
		case vm.Probe:
			go s.probe(f)
		case vm.Input:
			if c != nil {
				c.input <- f.Data
			}
		case vm.More:
			if n, err := vm.ParseNumber(f.Data); c != nil && err == nil {
				c.output.Add(n)
			}
		case vm.Cancel:
			if c != nil {
				c.output.End()
				go stray.End(stray.All, mark(f.ID)) // with what it started and has left it
			}
		}
	}
}

func (s *session) probe(f vm.Frame) {
	text := "want a port"
	if len(f.Data) == 2 {
		at := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(binary.LittleEndian.Uint16(f.Data))))
		c, err := net.DialTimeout("tcp4", at, 10*time.Second)
		if text = ""; err != nil {
			text = err.Error()
		} else {
			_ = c.Close()
		}
	}
	_ = s.out.Write(vm.Frame{Kind: vm.Answer, ID: f.ID, Data: []byte(text)})
}

// exec runs a command and says how it ended.
func (s *session) exec(f vm.Frame) {
	// The host sends no more input than this holds.
	c := &command{input: make(chan []byte, vm.Window/512+8), output: vm.NewCredit()}
	s.mu.Lock()
	s.commands[f.ID] = c
	s.mu.Unlock()
	code, err := s.command(f, c)
	s.mu.Lock()
	delete(s.commands, f.ID)
	s.mu.Unlock()
	data := vm.Number(code)
	if err != nil {
		data = append(data, err.Error()...)
	}
	_ = s.out.Write(vm.Frame{Kind: vm.Exit, ID: f.ID, Data: data[:min(len(data), vm.MaxFrame)]})
}

func (s *session) command(f vm.Frame, c *command) (int, error) {
	var argv []string
	if err := json.Unmarshal(f.Data, &argv); err != nil || len(argv) == 0 {
		return 0, fmt.Errorf("command: got %.40q: %w", f.Data, err)
	}
	var theirs, ours [3]*os.File
	defer func() {
		for _, p := range append(theirs[:], ours[:]...) {
			if p != nil {
				_ = p.Close()
			}
		}
	}()
	for i := range theirs {
		r, w, err := os.Pipe()
		if err != nil {
			return 0, err
		}
		theirs[i], ours[i] = w, r
		if i == 0 {
			theirs[i], ours[i] = r, w
		}
	}
	_, done, err := s.spawn(argv, append(slices.Clone(s.order.Env), mark(f.ID)), theirs[0], theirs[1], theirs[2])
	if err != nil {
		return 127, nil //nolint:nilerr // as a shell says it; the words are in the output
	}
	for i := range theirs {
		_ = theirs[i].Close()
	}
	go func() {
		for b := range c.input {
			if len(b) == 0 {
				break
			}
			_, _ = ours[0].Write(b)
			_ = s.out.Write(vm.Frame{Kind: vm.More, ID: f.ID, Data: vm.Number(len(b))})
		}
		_ = ours[0].Close()
	}()
	var output sync.WaitGroup
	for i, kind := range map[int]vm.Kind{1: vm.Output, 2: vm.Errors} {
		output.Go(func() { s.pump(ours[i], kind, f.ID, c) })
	}
	status := <-done
	// What its children still hold open is not waited for long.
	late := time.AfterFunc(time.Second, func() { _, _ = ours[1].Close(), ours[2].Close() })
	defer late.Stop()
	output.Wait()
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// pump sends output as fast as the host takes it.
func (s *session) pump(from *os.File, kind vm.Kind, id uint32, c *command) {
	b := make([]byte, vm.MaxFrame)
	for {
		n, err := from.Read(b)
		if c.output.Send(s.out, kind, id, b[:n]) != nil || err != nil {
			return
		}
	}
}
