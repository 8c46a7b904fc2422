package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Config is a machine to start.
type Config struct {
	Arm      bool              // it is one for arm64; Vars has to be given
	Disk     string            // image, written to
	Vars     string            // UEFI variables, made if it is not there; "": the machine has a BIOS
	Sector   int               // size of the disk's sectors in bytes; 0: 512
	ReadOnly bool              // the disk refuses writes
	Log      string            // file that takes the console
	Seen     func(line string) // is told of each line of the console as it comes; nil: nobody is
	WriteLog string            // file to which every write to the disk is added; "": none is kept
	Trace    string            // file that takes every read and write of the disk, see ReadTrace; "": none does
	Freezes  bool              // it can be frozen
	Frozen   string            // file that Freeze wrote, of a machine that is else the same: it goes on from there; "": it is powered on
	Memory   string            // file that holds its memory, which then outlives a reset, as a machine's does; "": it does not
	Watchdog bool              // it has a watchdog, an Intel 6300ESB, that resets it
	Clock    string            // what the machine's clock shows at first, such as "2040-01-01T00:00:00"; "": the time
	Port     int               // of the host's loopback that the guest may reach; 0: it has no network
}

// ErrEnded is in the chain of an error that says that the guest ended the machine.
var ErrEnded = errors.New("machine ended")

// Machine is a running QEMU.
type Machine struct {
	cmd   *exec.Cmd
	in    io.Writer
	lines chan string
	tail  []string // what was on the console last

	control *control // nil: it is told nothing
}

// hardware returns QEMU's arguments, behind those that make it give way to everything else.
func (c Config) hardware() ([]string, error) {
	// A processor without AVX, whose registers are most of what an emulated switch of contexts moves,
	// and of a maker whose kernels do not change page tables with every system call: an update takes
	// a seventh less of the host's than with all that can be emulated.
	program, kind, size := []string{"qemu-system-x86_64", "-cpu", "Opteron_G3,misalignsse=off"}, "q35", "256M"
	if c.Arm {
		// The kernel alone takes 60 MB while it is started.
		program, kind, size = []string{"qemu-system-aarch64", "-cpu", "cortex-a57"}, "virt", "512M"
	}
	if c.Memory != "" {
		kind += ",memory-backend=m0"
	}
	args := append([]string{"-n", "10"}, program...)
	args = append(args, "-M", kind, "-accel", "tcg", "-m", size, "-smp", "1",
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-device", "virtio-blk-pci,drive=d0,bootindex=1"+c.sectors())
	disk, err := c.disk()
	if err != nil {
		return nil, err
	}
	args = append(append(args, disk...), c.trace()...)
	args = append(args, c.frozen()...)
	if c.Memory != "" {
		args = append(args, "-object", "memory-backend-file,id=m0,share=on,size="+size+",mem-path="+c.Memory)
	}
	if c.Watchdog {
		args = append(args, "-device", "i6300esb", "-action", "watchdog=reset")
	}
	if c.Clock != "" {
		args = append(args, "-rtc", "base="+c.Clock)
	}
	if c.Port != 0 {
		// The guest finds the port at the end of its hardware address, the host at 10.0.2.2.
		args = append(args, "-netdev", "user,id=n0", "-device",
			fmt.Sprintf("virtio-net-pci,netdev=n0,romfile=,mac=52:54:00:00:%02x:%02x", c.Port>>8, c.Port&0xff))
	}
	if c.Vars == "" {
		return args, nil
	}
	code, vars := ovmfCode, ovmfVars
	if c.Arm {
		code, vars = armCode, armVars
	}
	if _, err := os.Stat(c.Vars); err != nil {
		if err := Clone(vars, c.Vars); err != nil {
			return nil, err
		}
	}
	return append(args, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+code,
		"-drive", "if=pflash,unit=1,format=raw,file="+c.Vars), nil
}

// sectors returns what is said of the disk's sectors.
func (c Config) sectors() string {
	if c.Sector == 0 {
		return ""
	}
	return fmt.Sprintf(",logical_block_size=%d,physical_block_size=%d", c.Sector, c.Sector)
}

// disk returns the arguments for the disk and for the log of what is written to it.
func (c Config) disk() ([]string, error) {
	if c.WriteLog == "" {
		drive := "if=none,id=d0,format=raw,file=" + c.Disk
		if c.ReadOnly {
			drive += ",readonly=on"
		}
		return []string{"-drive", drive}, nil
	}
	how := fmt.Sprintf("log-sector-size=%d", max(c.Sector, sector))
	if st, err := os.Stat(c.WriteLog); err == nil && st.Size() > 0 {
		how = "log-append=on"
	} else if err := os.WriteFile(c.WriteLog, nil, 0o644); err != nil {
		return nil, err
	}
	return []string{"-blockdev", "driver=file,filename=" + c.Disk + ",node-name=f0", "-blockdev", "driver=raw,file=f0,node-name=r0",
		"-blockdev", "driver=file,filename=" + c.WriteLog + ",node-name=l0",
		"-blockdev", "driver=blklogwrites,file=r0,log=l0,log-super-update-interval=1,node-name=d0," + how}, nil
}

// Start powers a machine on. It ends when the guest turns it off or reboots (an emulated
// reset takes twice the time of a new machine), and is killed when ctx ends.
func Start(ctx context.Context, c Config) (*Machine, error) {
	args, err := c.hardware()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	m := &Machine{cmd: exec.CommandContext(ctx, "nice", args...), lines: make(chan string, 4096)}
	m.cmd.Stderr = log
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := m.start(c); err != nil {
		return nil, err
	}
	go func() {
		defer log.Close()
		defer close(m.lines)
		s := bufio.NewScanner(io.TeeReader(out, log))
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			line := strings.TrimSpace(s.Text())
			if c.Seen != nil {
				c.Seen(line)
			}
			m.lines <- line
		}
	}()
	if err := m.begin(ctx, c); err != nil {
		m.Stop()
		return nil, err
	}
	return m, nil
}

// start starts QEMU, with the descriptors that it is to have.
func (m *Machine) start(c Config) error {
	if c.frozen() != nil {
		var theirs *os.File
		var err error
		if m.control, theirs, err = newControl(); err != nil {
			return err
		}
		defer theirs.Close()
		m.cmd.ExtraFiles = append(m.cmd.ExtraFiles, theirs)
	}
	if c.Frozen != "" {
		f, err := os.Open(c.Frozen)
		if err != nil {
			return err
		}
		defer f.Close()
		m.cmd.ExtraFiles = append(m.cmd.ExtraFiles, f)
	}
	return m.cmd.Start()
}

// Await returns the first line on the console from now on that holds one of the words,
// from that word on. It fails when the machine ends or ctx does.
func (m *Machine) Await(ctx context.Context, words ...string) (string, error) {
	for {
		select {
		case line, ok := <-m.lines:
			if !ok {
				return "", fmt.Errorf("%w before %q; it said: %s", ErrEnded, words, strings.Join(m.tail, " | "))
			}
			if m.tail = append(m.tail, line); len(m.tail) > 12 {
				m.tail = m.tail[1:]
			}
			for _, w := range words {
				if i := strings.Index(line, w); i >= 0 {
					return line[i:], nil
				}
			}
		case <-ctx.Done():
			return "", fmt.Errorf("%w before %q; the machine said: %s", ctx.Err(), words, strings.Join(m.tail, " | "))
		}
	}
}

// Ended waits until the guest has ended the machine.
func (m *Machine) Ended(ctx context.Context) error {
	for {
		select {
		case _, ok := <-m.lines:
			if !ok {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Say types a line on the console.
func (m *Machine) Say(line string) error {
	_, err := io.WriteString(m.in, line+"\n")
	return err
}

// CPU returns the processor time that the running machine has taken, to a hundredth of a
// second; 0 if it has ended.
func (m *Machine) CPU() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// proc(5): user and system time are the 14th and 15th field; the second is a name in
	// parentheses.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

// Stop cuts the power and returns the processor time that the machine took.
func (m *Machine) Stop() time.Duration {
	_ = m.cmd.Process.Kill() // it may have ended by itself
	for range m.lines {
	}
	_ = m.cmd.Wait()      // killed: an error that says nothing
	_ = m.control.close() // nobody is at the other end
	return m.cmd.ProcessState.UserTime() + m.cmd.ProcessState.SystemTime()
}
