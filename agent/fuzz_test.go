package agent

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/partitions"
)

// oneFile is a state directory in memory.
type oneFile map[string][]byte

func (d oneFile) Read(name string) ([]byte, error) {
	b, ok := d[name]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	return b, nil
}
func (d oneFile) Replace(name string, b []byte) error { d[name] = b; return nil }
func (d oneFile) Remove(name string) error            { delete(d, name); return nil }
func (d oneFile) List() ([]string, error)             { return nil, nil }
func (d oneFile) Lock() (func(), error)               { return func() {}, nil }
func (d oneFile) Sub(string) (durable.Dir, error)     { return oneFile{}, nil }

// FuzzJournal reads anything as each record of the state directory, as it is and inside
// an envelope with the right checksum: it is read, or it is an error, and what was read
// can be written and read again.
func FuzzJournal(f *testing.F) {
	for _, v := range []any{
		Transaction{}, Pointer{Current: 3, Committed: true}, Deployment{Number: 1}, denialRecord{}, historyRecord{}, Hold{}, hostRecord{Deployments: 1},
	} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"format":1,"sha256":"","body":null}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		readAll(t, b)
		e := envelope{Format: 1, Body: b}
		e.SHA256 = e.sum()
		if sealed, err := json.Marshal(e); err == nil {
			// json.Marshal compacts the body; the sum is over what is on disk.
			var back envelope
			if json.Unmarshal(sealed, &back) == nil {
				back.SHA256 = back.sum()
				if sealed, err = json.Marshal(back); err == nil {
					readAll(t, sealed)
				}
			}
		}
	})
}

func readAll(t *testing.T, b []byte) {
	t.Helper()
	s := &store{dir: oneFile{}, reads: StateFormat, writes: new(StateFormat), known: &Records{}}
	d := s.dir.(oneFile)
	for _, name := range []string{fileJournal, fileDenials, fileHistory, fileHold, fileHost, fileCheckpoint, pointerFile(partitions.A), deploymentFile(1), copyOf(deploymentFile(1))} {
		d[name] = b
	}
	var txn Transaction
	if s.load(fileJournal, &txn) == nil {
		if err := s.save(fileJournal, &txn); err != nil {
			return // such as a time that JSON cannot hold
		}
		var again Transaction
		if err := s.load(fileJournal, &again); err != nil {
			t.Fatalf("the journal was written and does not read back: %v", err)
		}
	}
	_, _ = s.pointer(partitions.A)
	if dep, err := s.deployment(1); err == nil && dep.Number != 1 {
		t.Fatalf("got deployment %d for number 1", dep.Number)
	}
	_, _ = s.manifest(1)
	_, _ = s.hold(time.Unix(0, 0))
	_, _ = s.denials()
	_, _ = s.history()
	_ = s.deny(Denial{})
	_ = s.record(HistoryEntry{})
	_, _ = s.newDeployment(Deployment{})
}
