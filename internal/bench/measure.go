package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// cost is what a process and those it waited for took.
type cost struct {
	CPU float64 `json:"cpu"` // seconds, user and system
	MiB int64   `json:"mib"` // largest resident memory of one process
}

// result is what one tool did with one pair.
type result struct {
	Bytes int64 `json:"bytes"`
	Make  cost  `json:"make"`
	Apply *cost `json:"apply,omitempty"`
}

// run runs a command that has nothing to say unless it fails.
func run(ctx context.Context, argv []string) (cost, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return cost{}, fmt.Errorf("%q: %w: %s", argv, err, bytes.TrimSpace(said.Bytes()))
	}
	c := cost{CPU: (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.MiB = u.Maxrss >> 10 // Linux counts KiB
	}
	return c, nil
}

func output(argv ...string) (string, error) {
	b, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%q: %w: %s", argv, err, b)
	}
	return string(b), nil
}

// measure lets a tool make and apply its delta, and compares what comes out.
func measure(ctx context.Context, t tool, j job) (r result, err error) {
	if j.dir, err = os.MkdirTemp(j.dir, "run"); err != nil {
		return r, err
	}
	defer os.RemoveAll(j.dir)
	j.delta, j.out = filepath.Join(j.dir, "delta"), filepath.Join(j.dir, "out")
	if t.prepare != nil {
		for _, argv := range t.prepare(j) {
			if _, err := run(ctx, argv); err != nil {
				return r, err
			}
		}
	}
	if r.Make, err = run(ctx, t.make(j)); err != nil {
		return r, err
	}
	if t.bytes != nil {
		r.Bytes, err = t.bytes(j)
	} else {
		var st os.FileInfo
		if st, err = os.Stat(j.delta); err == nil {
			r.Bytes = st.Size()
		}
	}
	if err != nil || t.apply == nil {
		return r, err
	}
	c, err := run(ctx, t.apply(j))
	if err != nil {
		return r, err
	}
	r.Apply = &c
	return r, same(j.new, j.out)
}

// same compares two files byte for byte.
func same(want, got string) error {
	a, err := os.Open(want)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(got)
	if err != nil {
		return err
	}
	defer b.Close()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; at += int64(len(x)) {
		n, err := io.ReadFull(a, x)
		m, berr := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return fmt.Errorf("%s differs from %s within 1 MiB of byte %d", got, want, at)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err := errors.Join(err, berr); err != nil {
			return err
		}
	}
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}
