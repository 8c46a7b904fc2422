package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/mount"
	"github.com/twinkeel/twinkeel/workloads/pace"
)

// Held is a shim that has done all that it can before its application starts. It ends if
// its caller does.
type Held struct {
	process *os.Process
	says    *json.Decoder
	close   func() error // of what it says
	word    *os.File
	ended   chan struct{}
}

// Given is what a shim is handed over. It stays its caller's.
type Given struct {
	IDs     *mount.Mapping // to the order's ids; it takes a process to make
	Sockets []*os.File     // that the application listens on, in the order of the manifest
	Image   *os.File       // mount.Shared.Mount's, of the order's image; nil: the shim mounts it
}

// Spawn starts a shim for a directory, which holds its order, by command with the
// directory's name appended, and returns when its application runs. The shim lives on without the caller; ended is closed when it does end
// before the caller.
func Spawn(ctx context.Context, command []string, dir string, with Given) (ended <-chan struct{}, err error) {
	h, err := spawn(command, dir, with, true)
	if err != nil {
		return nil, err
	}
	return h.ended, errors.Join(h.hear(ctx, false), h.Close())
}

// Prepare is Spawn up to the moment before the application starts.
func Prepare(ctx context.Context, command []string, dir string, with Given) (*Held, error) {
	h, err := spawn(command, dir, with, false)
	if err != nil {
		return nil, err
	}
	if err := h.hear(ctx, true); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Start gives the word, and returns as Spawn does.
func (h *Held) Start(ctx context.Context) (ended <-chan struct{}, err error) {
	_, err = h.word.WriteString(word)
	return h.ended, errors.Join(err, h.hear(ctx, false), h.Close())
}

// Close lets go of the shim, which without the word ends.
func (h *Held) Close() error { return errors.Join(h.word.Close(), h.close()) }

// word is what a shim waits for.
const word = "\n"

// frugalRuntime has Go's runtime do without what a shim has no use for, and a start would wait
// for: looking for limits of its control group, the sampling of its memory, names of its
// mappings, and signals to goroutines that calculate for long.
const frugalRuntime = "GODEBUG=containermaxprocs=0,memprofilerate=0,decoratemappings=0,asyncpreemptoff=1"

// spawn starts a shim that waits for the word, or that has been given it.
func spawn(command []string, dir string, with Given, given bool) (*Held, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start shim: %w", err)
	}
	wordR, wordW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start shim: %w", errors.Join(err, r.Close(), w.Close()))
	}
	if given {
		if _, err := wordW.WriteString(word); err != nil {
			return nil, fmt.Errorf("start shim: %w", errors.Join(err, r.Close(), w.Close(), wordR.Close(), wordW.Close()))
		}
	}
	c := exec.Command(command[0], append(command[1:], dir)...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=1", frugalRuntime}
	c.Dir = "/"
	c.Stderr = os.Stderr
	c.ExtraFiles = append([]*os.File{w, wordR, with.IDs.File()}, with.Sockets...)
	if with.Image != nil {
		c.ExtraFiles = append(c.ExtraFiles, with.Image)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Unshareflags: syscall.CLONE_NEWNS}
	err = pace.Start(c, pace.Lazy)
	_, _ = w.Close(), wordR.Close()
	if err != nil {
		return nil, fmt.Errorf("start shim: %w", errors.Join(err, r.Close(), wordW.Close()))
	}
	h := &Held{process: c.Process, says: json.NewDecoder(io.LimitReader(r, maxMessage)), close: r.Close, word: wordW, ended: make(chan struct{})}
	go func() {
		_ = c.Wait()
		close(h.ended)
	}()
	return h, nil
}

// hear waits for what the shim says next, which is that it is ready, or that its
// application runs.
func (h *Held) hear(ctx context.Context, ready bool) error {
	stop := context.AfterFunc(ctx, func() { _ = h.process.Kill() })
	defer stop()
	var said report
	err := h.says.Decode(&said)
	switch {
	case err != nil:
		_ = h.process.Kill()
		<-h.ended
		return fmt.Errorf("start shim: it ended without a word: %w", errors.Join(ctx.Err(), err))
	case said.Error != "":
		<-h.ended
		err := errors.New(said.Error)
		if said.Missing {
			err = fmt.Errorf("%w: %w", workloads.ErrMissing, err)
		}
		return err
	case said.Ready != ready:
		_ = h.process.Kill()
		<-h.ended
		return fmt.Errorf("start shim: it said ready %t, want %t", said.Ready, ready)
	}
	return nil
}
