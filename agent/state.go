package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/release"
)

// StateFormat is the newest state format that this agent reads and writes. It writes
// the newest one that the agents of both slots read, so that an agent which dies in its
// trial leaves nothing behind that the other cannot read.
const StateFormat = 1

// The files of the state directory. Deployments are deployment-N.json.
const (
	fileJournal    = "journal.json"
	fileDenials    = "denials.json"
	fileHistory    = "history.json"
	fileHold       = "hold.json"
	fileHost       = "host.json"
	fileCheckpoint = "checkpoint.json"
	fileProbe      = "writable"
)

// errDamaged is in the chain of an error about a file that is there but not what was
// written.
var errDamaged = errors.New("damaged")

// store keeps the agent's state as checksummed JSON records in a durable.Dir.
// Source of the format: docs/FORMAT.md, "State of a host".
type store struct {
	dir    durable.Dir // nil: there is no state directory
	err    error       // why dir is nil
	reads  int         // newest format that can be read
	writes *int        // format that is written; the stores of a host share it
	known  *Records
	// doubtful are files that read as they were written, or not at all, although writing them
	// failed: a power cut may bring back what was there before.
	doubtful map[string]bool
}

// envelope is a record on disk: the sum covers the format and the exact bytes of Body,
// so that a flipped bit in the format is damage and not "written by a newer agent".
type envelope struct {
	Format int             `json:"format"`
	SHA256 release.Digest  `json:"sha256"`
	Body   json.RawMessage `json:"body"`
}

func (e *envelope) sum() release.Digest {
	b := strconv.AppendInt(make([]byte, 0, 32+len(e.Body)), int64(e.Format), 10)
	return release.DigestOf(append(append(b, '\n'), e.Body...))
}

// encode is json.Marshal for a body that json.Marshal made, and a newline.
func (e *envelope) encode() []byte {
	b := append(make([]byte, 0, 128+len(e.Body)), `{"format":`...)
	b = strconv.AppendInt(b, int64(e.Format), 10)
	b = append(append(b, `,"sha256":"`...), e.SHA256.String()...)
	b = append(append(b, `","body":`...), e.Body...)
	return append(b, "}\n"...)
}

// load reads a record into v. A missing file is fs.ErrNotExist, a file with other bytes
// than were written is errDamaged.
func (s *store) load(name string, v any) error {
	f, err := s.file(name)
	if err != nil {
		return err
	}
	if to := reflect.ValueOf(v).Elem(); to.IsZero() {
		err = s.known.parse(f, to)
	} else {
		err = json.Unmarshal(f.Body, v)
	}
	if err != nil {
		return fmt.Errorf("read state %s: %w: %w", name, errDamaged, err)
	}
	return nil
}

// file reads a record whose format this agent knows.
func (s *store) file(name string) (*file, error) {
	if s.dir == nil {
		return nil, s.missing()
	}
	b, err := s.dir.Read(name)
	if err != nil {
		return nil, err
	}
	f, err := s.known.file(b)
	if err != nil {
		return nil, fmt.Errorf("read state %s: %w: %w", name, errDamaged, err)
	}
	if f.Format < 1 || f.Format > s.reads {
		return nil, fmt.Errorf("read state %s: format: got %d, want 1 to %d", name, f.Format, s.reads)
	}
	return f, nil
}

// open checks that a record is whole.
func open(b []byte) (*envelope, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, err
	}
	if got := e.sum(); got != e.SHA256 {
		return nil, fmt.Errorf("sha256: got %s, want %s", got.Short(), e.SHA256.Short())
	}
	return &e, nil
}

// save durably replaces a record. Fields of the old record that this agent does not
// know are kept: a newer agent may have written them.
func (s *store) save(name string, v any) error {
	if s.dir == nil {
		return s.missing()
	}
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write state %s: %w", name, err)
	}
	t := reflect.TypeOf(v)
	if old, err := s.file(name); err == nil {
		if unknown := s.known.beside(old, t); len(unknown) > 0 {
			if body, err = with(body, unknown); err != nil {
				return fmt.Errorf("write state %s: %w", name, err)
			}
			t = nil
		}
	}
	e := &envelope{Format: *s.writes, Body: body}
	e.SHA256 = e.sum()
	b := e.encode()
	s.known.wrote(b, e, t)
	return s.replace(name, b)
}

// replace durably replaces a file.
func (s *store) replace(name string, b []byte) error {
	if err := s.dir.Replace(name, b); err != nil {
		// On a full disk nothing was replaced, and what makes room must not wait for it.
		if got, rerr := s.dir.Read(name); rerr == nil && bytes.Equal(got, b) || rerr != nil && !absent(rerr) {
			if s.doubtful == nil {
				s.doubtful = map[string]bool{}
			}
			s.doubtful[name] = true
		}
		return &Refusal{Reason{CodeState, fmt.Sprintf("write state %s: %v", name, err)}, err}
	}
	delete(s.doubtful, name)
	return nil
}

// settle writes once more what is doubtful. Nothing may build on it before.
func (s *store) settle() error {
	for _, name := range slices.Sorted(maps.Keys(s.doubtful)) {
		if err := s.rewrite(name); err != nil {
			return err
		}
	}
	return nil
}

// settleStores settles what the agent wrote and what it wrote of applications.
func (a *Agent) settleStores() error {
	a.appsOpen.Lock()
	stores := []*store{a.st, a.appStore}
	a.appsOpen.Unlock()
	for _, s := range stores {
		if s == nil {
			continue
		}
		if err := s.settle(); err != nil {
			return err
		}
	}
	return nil
}

// rewrite makes a file durable as it reads, and with it every name of its directory.
func (s *store) rewrite(name string) error {
	b, err := s.dir.Read(name)
	if absent(err) {
		delete(s.doubtful, name)
		return nil
	}
	if err != nil {
		return err
	}
	return s.replace(name, b)
}

// with adds fields to a record.
func with(body json.RawMessage, fields map[string]json.RawMessage) (json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, err
	}
	maps.Copy(all, fields)
	return json.Marshal(all)
}

func jsonFields(t reflect.Type) map[string]bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	known := map[string]bool{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		known[name] = true
	}
	return known
}

func (s *store) remove(name string) error {
	if s.dir == nil {
		return s.missing()
	}
	return s.dir.Remove(name)
}

func (s *store) missing() error {
	// The cause is told and not wrapped: a directory that is not there must not pass for
	// a record that is not there.
	return &Refusal{Reason{CodeState, fmt.Sprintf("state directory: %v", s.err)}, nil}
}

// writable reports why nothing can be written to the state directory, or nil.
func (s *store) writable() error {
	if s.dir == nil {
		return s.missing()
	}
	if err := s.dir.Replace(fileProbe, nil); err != nil {
		return &Refusal{Reason{CodeState, fmt.Sprintf("state directory cannot be written: %v", err)}, err}
	}
	return nil
}

func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
