package fetcher_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/fetcher"
	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/release"
)

// fileBase is a base that has a file, as a slot's device has.
type fileBase struct{ f *os.File }

func (b fileBase) File() *os.File { return b.f }

// ReadAt implements io.ReaderAt.
func (b fileBase) ReadAt(p []byte, off int64) (int, error) { return b.f.ReadAt(p, off) }

// payload is a segment of length bytes: 4 KiB of the base, then data, then zeros.
func payload(data []byte, length int64) ([]byte, deltas.Segment) {
	ops := deltas.AppendInstructions(nil, []deltas.Instruction{
		{Op: deltas.OpCopy, Offset: 4096, Length: 4096},
		{Op: deltas.OpData, Length: int64(len(data))},
		{Op: deltas.OpZero, Length: length - 4096 - int64(len(data))},
	})
	b := deltas.AppendPayload(nil, []deltas.Stream{
		{ID: deltas.StreamOps, Size: len(ops), Body: ops},
		{ID: deltas.StreamData, Size: len(data), Body: data},
	})
	return b, deltas.Segment{Length: length, PayloadLength: int64(len(b)), Payload: release.DigestOf(b), Target: release.DigestOf(b)}
}

func newBase(t *testing.T) (fileBase, []byte) {
	t.Helper()
	content := bytes.Repeat([]byte("base"), 4096)
	path := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return fileBase{f}, content
}

func TestDecodeStreamsThePlanOfASegment(t *testing.T) {
	base, content := newBase(t)
	data := bytes.Repeat([]byte("new data "), 400_000)
	b, s := payload(data, 8<<20)
	c := spawn(t, fetcher.Options{})
	pid := onlyChild(t)
	for range 3 {
		plan, err := c.Decode(t.Context(), b, s, base)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := deltas.Execute(plan, s, base, int64(len(content)), &got); err != nil {
			t.Fatal(err)
		}
		if err := plan.Close(); err != nil {
			t.Error(err)
		}
		want := append(append(bytes.Clone(content[4096:8192]), data...), make([]byte, 8<<20-4096-len(data))...)
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("got %d other bytes than the %d wanted", got.Len(), len(want))
		}
	}
	if pid != onlyChild(t) {
		t.Error("the process was started anew")
	}
}

func TestAPlanLeftBehindCostsAConnectionAtMost(t *testing.T) {
	base, _ := newBase(t)
	b, s := payload(bytes.Repeat([]byte("x"), 4<<20), 8<<20)
	c := spawn(t, fetcher.Options{})
	pid := onlyChild(t)
	for range 10 {
		plan, err := c.Decode(t.Context(), b, s, base)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(plan, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(plan.Close(), plan.Close()); err != nil {
			t.Error(err)
		}
		if _, err := plan.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read after Close: got %v, want an error", err)
		}
	}
	if pid != onlyChild(t) {
		t.Error("the process was started anew")
	}
}

func TestAPayloadThatCannotBeDecodedIsNotUnavailable(t *testing.T) {
	base, _ := newBase(t)
	b, s := payload([]byte("data"), 1<<20)
	c := dial(t, fetcher.Options{})
	damaged := bytes.Clone(b)
	damaged[len(b)-1] ^= 1
	short := s
	short.Length = 4096
	cut, sCut := payload([]byte("data"), 1<<20)
	cut = cut[:len(cut)-1]
	sCut.PayloadLength, sCut.Payload = int64(len(cut)), release.DigestOf(cut)
	for _, test := range []struct {
		name    string
		payload []byte
		segment deltas.Segment
		base    io.ReaderAt
		text    string
	}{
		{"flipped bit", damaged, s, base, "digest"},
		{"truncated", cut, sCut, base, "truncated"},
		{"more than its segment", b, short, base, ""},
		{"no base", b, s, nil, ""},
		{"base without a file", b, s, bytes.NewReader(nil), "want one with a file"},
		{"other length than announced", b[1:], s, base, "want"},
	} {
		err := func() error {
			plan, err := c.Decode(t.Context(), test.payload, test.segment, test.base)
			if err != nil {
				return err
			}
			defer func() { _ = plan.Close() }()
			_, err = io.Copy(io.Discard, plan)
			return err
		}()
		if err == nil || errors.Is(err, agent.ErrUnavailable) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v, want an error with %q that is not agent.ErrUnavailable", test.name, err, test.text)
		}
	}
}
