package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/twinkeel/twinkeel/internal/machine"
)

// Story is what differs from telling to telling. Its fields are set before Tell.
type Story struct {
	Title    string
	Out      io.Writer                          // the report
	Bin      string                             // directory of the commands
	Work     string                             // an empty directory, absolute
	State    string                             // the host's state directory
	Releases [4]Release                         // from the factory, good, broken, repaired
	Slots    map[string]string                  // "root-a" and the like to the partition as the host's configuration names it
	Devices  map[string]string                  // the same partitions as paths
	Record   string                             // partition or file of the boot record, as the configuration names it
	Loadable func(slot string) bool             // whether the firmware finds a kernel in a slot; may be nil
	System   machine.System                     // what runs in a slot; may be nil
	Probes   []Probe                            // how the host judges a trial
	Soak     time.Duration                      // how long a trial must stay healthy
	Deadline time.Duration                      // until when it must be
	Verify   func(context.Context, Image) error // a second opinion on an image in a slot; may be nil

	env     []string
	logs    *os.File
	machine *machine.Machine
	server  *machine.Process
	address string
	boots   chan machine.Boot
	table   table
}

// Release is one release and its image files by name.
type Release struct {
	Version string
	Images  map[string]string
}

// Probe is one required health check.
type Probe struct {
	Name    string
	Command []string // one of Command and HTTP is set
	HTTP    string
}

// Image is one image in a slot, as the slot's manifest describes it.
type Image struct {
	Slot, Name, Device string
	Size               int64
	Root, Salt         string // hexadecimal
}

// The names that all tellings use.
const (
	channel    = "stable"
	compatible = "demo-amd64"
)

// Tell runs all chapters. Whatever it started has ended when it returns; what they
// printed is in the files log and server.log of Work.
func (s *Story) Tell(ctx context.Context) (err error) {
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := s.prepare(); err != nil {
		return err
	}
	defer s.logs.Close()
	defer func() { s.stopServer() }()
	if err := s.table.open(s.Out, s.Title); err != nil {
		return err
	}
	if err := s.publishFirst(ctx); err != nil {
		return err
	}
	if err := s.factory(ctx); err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	running.Go(func() {
		// A machine that dies ends whatever waits for it.
		if err := s.machine.Run(ctx); err != nil {
			cancel(err)
		}
	})
	for _, chapter := range []func(context.Context) error{
		s.firstBoot, s.update, s.broken, s.bundle, s.rollback, s.ending,
	} {
		if err := chapter(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
				err = fmt.Errorf("%w: %w", err, cause)
			}
			return fmt.Errorf("%w\n(what the processes said: %s)", err, s.logs.Name())
		}
	}
	return s.table.close(time.Since(began))
}

// prepare makes the files of the machine and the publisher's passphrase.
func (s *Story) prepare() (err error) {
	for _, d := range []string{s.Work, s.State} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("work directory: %w", err)
		}
	}
	if s.Bin, err = filepath.Abs(s.Bin); err != nil {
		return fmt.Errorf("commands: %w", err)
	}
	if s.logs, err = os.OpenFile(filepath.Join(s.Work, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	passphrase := filepath.Join(s.Work, "passphrase")
	if err := os.WriteFile(passphrase, []byte("only for this demonstration\n"), 0o600); err != nil {
		return fmt.Errorf("passphrase: %w", err)
	}
	s.env = append(os.Environ(), "TWINKEEL_PASSPHRASE_FILE="+passphrase)
	s.boots = make(chan machine.Boot, 64)
	s.machine = &machine.Machine{
		Dir: s.Work, Log: s.logs, System: s.System, Loader: s.firmware,
		Agent:  []string{filepath.Join(s.Bin, "twinkeeld"), "--config", s.config()},
		Booted: func(b machine.Boot) { s.boots <- b },
	}
	return s.machine.Prepare()
}
