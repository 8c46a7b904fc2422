package story

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/machine"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/simulated"
	"github.com/twinkeel/twinkeel/release"
)

func (s *Story) config() string { return filepath.Join(s.Work, "twinkeel.toml") }

// configure writes the host's configuration file, as docs/OPERATIONS.md describes it.
func (s *Story) configure(root string) error {
	b := new(bytes.Buffer)
	set := func(key string, value any) {
		j, _ := json.Marshal(value) // strings and arrays of them are the same in TOML
		fmt.Fprintf(b, "%s = %s\n", key, j)
	}
	set("server", "http://"+s.address)
	set("channel", channel)
	set("compatible", compatible)
	set("state", s.State)
	set("root", root)
	set("socket", filepath.Join(s.Work, "agent.sock"))
	for _, slot := range []string{"a", "b"} {
		fmt.Fprintf(b, "[slots.%s]\n", slot)
		for _, image := range s.images() {
			set(image, s.Slots[image+"-"+slot])
		}
	}
	b.WriteString("[boot]\n")
	set("loader", "simulated")
	set("path", s.Record)
	set("reboot", s.machine.RebootCommand())
	b.WriteString("[health]\n")
	set("deadline", s.Deadline.String())
	set("soak", s.Soak.String())
	for _, p := range s.Probes {
		b.WriteString("[[health.probe]]\n")
		set("name", p.Name)
		if p.HTTP != "" {
			set("http", p.HTTP)
		} else {
			set("command", p.Command)
		}
		b.WriteString("required = true\n")
	}
	return os.WriteFile(s.config(), b.Bytes(), 0o644)
}

// images lists the names of a release's images.
func (s *Story) images() (names []string) {
	for name := range s.Releases[0].Images {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ExitError is a command that did not succeed.
type ExitError struct {
	Command string
	Code    int
	Output  string
}

// Error returns command, code and the end of the output.
func (e *ExitError) Error() string {
	out := strings.TrimSpace(e.Output)
	return fmt.Sprintf("%s: exit code %d: %s", e.Command, e.Code, out[max(0, len(out)-2000):])
}

// command runs one of the commands and returns its standard output.
func (s *Story) command(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, name), args...)
	cmd.Env = s.env
	var out, all bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &all
	err := cmd.Run()
	line := name + " " + strings.Join(args, " ")
	fmt.Fprintf(s.logs, "$ %s\n%s%s", line, out.Bytes(), all.Bytes())
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return out.Bytes(), &ExitError{line, exit.ExitCode(), out.String() + all.String()}
	case err != nil:
		return nil, fmt.Errorf("%s: %w", line, err)
	}
	return out.Bytes(), nil
}

// twinkeel runs the operator's command on the host, again while the agent is at
// something of its own.
func (s *Story) twinkeel(ctx context.Context, args ...string) (out []byte, err error) {
	all := append([]string{"--config", s.config()}, args...)
	waitErr := s.until(ctx, time.Minute, "an agent with time for "+args[0], func() (string, error) {
		out, err = s.command(ctx, "twinkeel", all...)
		var exit *ExitError
		if errors.As(err, &exit) && exit.Code == busy {
			return exit.Output, nil
		}
		return "", nil
	})
	return out, errors.Join(err, waitErr)
}

// ask runs a reading command and decodes its answer into v.
func (s *Story) ask(ctx context.Context, v any, args ...string) error {
	out, err := s.twinkeel(ctx, append([]string{"--json"}, args...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("twinkeel %s: %w: %.200q", strings.Join(args, " "), err, out)
	}
	return nil
}

// settled waits until the host is at rest, running and keeping version in slot.
func (s *Story) settled(ctx context.Context, slot, version string) (agent.Status, error) {
	var st agent.Status
	err := s.until(ctx, s.Deadline+s.Soak+time.Minute, version+" committed in slot "+slot, func() (string, error) {
		st = agent.Status{}
		if err := s.ask(ctx, &st, "status"); err != nil {
			return err.Error(), nil // the host may just be rebooting
		}
		for _, sl := range st.Slots {
			if st.Phase == agent.Idle && st.Running == slot && st.Next == slot &&
				sl.Name == slot && sl.Successful && sl.Version != nil && sl.Version.String() == version {
				return "", nil
			}
		}
		j, _ := json.Marshal(st) // only for the message
		return string(j), nil
	})
	return st, err
}

// nextBoot waits for the machine's next boot.
func (s *Story) nextBoot(ctx context.Context, slot string) (note string, err error) {
	select {
	case b := <-s.boots:
		if b.Slot != slot {
			return "", fmt.Errorf("boot %d: got slot %s, want %s", b.Number, b.Slot, slot)
		}
		return "boot " + strconv.Itoa(b.Number) + ": slot " + b.Slot, nil
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for a boot into slot %s: %w", slot, ctx.Err())
	case <-time.After(2 * time.Minute):
		return "", fmt.Errorf("no boot into slot %s came within 2 minutes", slot)
	}
}

// factory fills slot A with the first release.
func (s *Story) factory(ctx context.Context) error {
	began := time.Now()
	m, err := s.manifest(0)
	if err != nil {
		return err
	}
	for _, i := range m.Images {
		root, err := machine.WriteImage(s.Devices[i.Name+"-a"], s.Releases[0].Images[i.Name], i.Salt)
		if err != nil {
			return err
		}
		if root != i.Root {
			return fmt.Errorf("image %s of the factory: got root %s, want %s", i.Name, root, i.Root)
		}
	}
	if err := s.describe(m); err != nil {
		return err
	}
	if s.address, err = FreeAddress(); err != nil {
		return err
	}
	trust := filepath.Join(s.Work, "root.json")
	b, err := os.ReadFile(filepath.Join(s.site(), "repository/metadata/1.root.json"))
	if err != nil {
		return fmt.Errorf("factory trust: %w", err)
	}
	if err := os.WriteFile(trust, b, 0o644); err != nil {
		return fmt.Errorf("factory trust: %w", err)
	}
	if err := s.configure(trust); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return s.table.add(row{step: "factory: " + m.Version.String() + " into slot a", took: time.Since(began)})
}

// describe lays out the boot record: slot A stands, and holds m.
func (s *Story) describe(m release.Manifest) error {
	d := bootloader.Description{Version: m.Version, Images: make(map[string]release.Digest)}
	for _, i := range m.Images {
		d.Images[i.Name] = i.Root
		if i.Name == "root" {
			d.Root, d.Salt, d.HashOffset = i.Root, i.Salt, i.Size
		}
	}
	var standing bootloader.State
	record, err := simulated.OpenFile(s.Record)
	if err != nil {
		return err
	}
	return simulated.Create(record, standing.Commit(partitions.A), map[partitions.Slot]bootloader.Description{partitions.A: d})
}

// firmware starts the machine as its boot loader does.
func (s *Story) firmware(ctx context.Context) (string, error) {
	l, err := simulated.Open(s.Record)
	if err != nil {
		return "", err
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	loadable := func(partitions.Slot) bool { return true }
	if s.Loadable != nil {
		loadable = func(slot partitions.Slot) bool { return s.Loadable(slot.String()) }
	}
	b, err := l.PowerOn(ctx, strings.TrimSpace(string(id)), loadable)
	return b.Slot.String(), err
}
