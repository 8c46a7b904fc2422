package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twinkeel/twinkeel/internal/machine"
	"github.com/twinkeel/twinkeel/internal/story"
	"github.com/twinkeel/twinkeel/internal/vm"
)

// stepLimit is how long the machine may take for one step. Idle, a boot takes a quarter of
// a minute; a stage of the whole image is the longest, and a busy machine takes ten times as
// long.
const stepLimit = 30 * time.Minute

const (
	channel    = "stable"
	compatible = "debian-amd64"
)

func main() {
	var s show
	flag.StringVar(&s.bin, "bin", "bin", "directory of the commands")
	flag.StringVar(&s.images, "images", ".cache/debian", "directory that build.sh made")
	flag.StringVar(&s.work, "work", ".cache/debian/run", "directory to work in; it is emptied first")
	flag.StringVar(&s.loader, "loader", "grub", "grub or systemd-boot, as the images were built for")
	log := flag.Bool("write-log", false, "record the first update, examine what power cuts would leave of it, and boot some of that, instead")
	flag.IntVar(&s.log.sample, "sample", 20, "`NUMBER` of states of the write log with writes lost or torn")
	flag.IntVar(&s.log.boots, "boots", -1, "boot at most `NUMBER` of states of the write log; less than 0: all whose boot record differs, and the sample")
	flag.Uint64Var(&s.log.seed, "seed", 1, "`NUMBER` that all chance comes from")
	flag.Parse()
	s.recorded = *log
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := s.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "debian:", err)
		os.Exit(1)
	}
}

// show is one run.
type show struct {
	bin, images, work, loader string

	recorded bool // the update is recorded, and its write log looked at
	log      writeLog

	ctx    context.Context
	config vm.Config
	m      *vm.Machine
	began  time.Time
	boots  int
	cpu    time.Duration
}

// run tells the story from the first release to the machine that came back.
func (s *show) run(ctx context.Context) (err error) {
	s.ctx, s.began = ctx, time.Now()
	if s.work, err = filepath.Abs(s.work); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(s.work), os.MkdirAll(s.work, 0o755)); err != nil {
		return err
	}
	address, err := story.FreeAddress()
	if err != nil {
		return err
	}
	if err := s.factory(strings.Replace(address, "127.0.0.1", "10.0.2.2", 1)); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.work, "server.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	server, err := machine.Start([]string{filepath.Join(s.bin, "twinkeel-server"), "serve", s.site(), "--listen", address}, log)
	if err != nil {
		return err
	}
	defer server.Terminate()
	defer s.off()
	s.config = vm.Config{Disk: s.disk(), Log: filepath.Join(s.work, "console.log"), Port: 1}
	if s.loader != "grub" {
		s.config.Vars = filepath.Join(s.work, "vars.fd")
	}
	if s.recorded {
		if s.loader != "grub" {
			return errors.New("write log: only of a machine with GRUB")
		}
		s.config.WriteLog = filepath.Join(s.work, "writes")
		if err := vm.Clone(s.disk(), s.original()); err != nil {
			return err
		}
	}
	err = s.updates()
	s.off()
	if err == nil && s.recorded {
		err = s.replay(s.log)
	}
	if err != nil {
		return fmt.Errorf("%w; the machine's console is in %s", err, s.config.Log)
	}
	s.say("%d boots, %.0f s of processor", s.boots, s.cpu.Seconds())
	return nil
}

// committed is after how many steps the first update is committed.
const committed = 3

// updates drives the machine, which takes its decisions itself.
func (s *show) updates() error {
	for i, step := range []struct {
		publish string              // release to publish before
		from    string              // and the one it gets a delta from
		boots   func(console) error // what is seen then
		told    string
	}{
		{"", "", func(c console) error {
			return c.sees("slot a is committed with release 1.0", "Reached target boot-complete.target")
		}, "the machine boots release 1.0 from slot a, and adopts it"},
		{"1.1", "1.0", func(c console) error {
			return errors.Join(c.sees("update begins", "image=root route=delta", "rebooting"), c.ends())
		}, "it stages release 1.1, with Debian's fixes, by delta, and reboots into its trial"},
		{"", "", func(c console) error {
			return c.sees("result=committed")
		}, "boot-complete.target is reached, its probes pass, 1.1 is committed"},
		{"1.2", "1.1", func(c console) error {
			return errors.Join(c.sees("update begins", "rebooting"), c.ends())
		}, "it stages release 1.2, whose ssh server does not start"},
		{"", "", func(c console) error {
			return errors.Join(c.sees("leaving the trial", "rebooting"), c.ends())
		}, "the trial is not healthy by its deadline: it is left"},
		{"", "", func(c console) error {
			return c.sees("twinkeel.version=1.1", "from=1.1", "nothing to do")
		}, "1.1 runs again, and 1.2 is not offered to it any more"},
	} {
		if s.recorded && i == committed {
			return nil
		}
		if step.publish != "" {
			if err := s.publish(step.publish, step.from); err != nil {
				return err
			}
		}
		if s.m == nil {
			if err := s.on(); err != nil {
				return err
			}
		}
		if err := step.boots(console{s}); err != nil {
			return fmt.Errorf("%s: %w", step.told, err)
		}
		s.say("%s", step.told)
	}
	return nil
}

// console is what is seen of the machine.
type console struct{ *show }

// sees waits for lines that hold the words, one after the other.
func (c console) sees(words ...string) error {
	for _, w := range words {
		if _, err := c.awaits(w); err != nil {
			return err
		}
	}
	return nil
}

// awaits returns the next line that holds a word, from that on.
func (c console) awaits(word string) (string, error) {
	ctx, cancel := context.WithTimeout(c.ctx, stepLimit)
	defer cancel()
	return c.m.Await(ctx, word)
}

// ends waits until the machine has ended, as it does for a reboot.
func (c console) ends() error {
	ctx, cancel := context.WithTimeout(c.ctx, stepLimit)
	defer cancel()
	err := c.m.Ended(ctx)
	c.off()
	return err
}

func (s *show) on() (err error) {
	s.boots++
	s.m, err = vm.Start(s.ctx, s.config)
	return err
}

func (s *show) off() {
	if s.m != nil {
		s.cpu += s.m.Stop()
		s.m = nil
	}
}

func (s *show) say(format string, args ...any) {
	fmt.Printf("%6.1f s  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

func (s *show) site() string { return filepath.Join(s.work, "site") }
func (s *show) disk() string { return filepath.Join(s.work, "disk.img") }

// original is the disk before its first boot.
func (s *show) original() string { return filepath.Join(s.work, "original.img") }

// configuration of the machine: the least, and short deadlines, so that this is short.
const configuration = `server = "http://%s"
channel = "` + channel + `"
compatible = "` + compatible + `"

[slots.a]
root = "PARTLABEL=root-a"
boot = "PARTLABEL=boot-a"
[slots.b]
root = "PARTLABEL=root-b"
boot = "PARTLABEL=boot-b"

[poll]
interval = "1m"

[health]
deadline = "%s"
soak = "10s"
`

// onSerialLine has the machine's journal on its console, for those who look from outside.
const onSerialLine = "[Journal]\nForwardToConsole=yes\nTTYPath=/dev/ttyS0\nMaxLevelConsole=info\n"

// factory makes keys and a repository, publishes the first release and makes a disk of it.
func (s *show) factory(server string) error {
	if err := os.WriteFile(s.passphrase(), []byte("only for this show\n"), 0o600); err != nil {
		return err
	}
	if err := s.command("init", s.site(), "--profile", "solo"); err != nil {
		return err
	}
	if err := s.publish("1.0", ""); err != nil {
		return err
	}
	deadline := "2m"
	if s.recorded {
		deadline = "9m" // no bad release makes anybody wait for it
	}
	config, own := filepath.Join(s.work, "twinkeel.toml"), filepath.Join(s.work, "own")
	if err := os.WriteFile(config, fmt.Appendf(nil, configuration, server, deadline), 0o644); err != nil {
		return err
	}
	journal := filepath.Join(own, "twinkeel/identity/systemd/journald.conf.d")
	if err := os.MkdirAll(journal, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(journal, "console.conf"), []byte(onSerialLine), 0o644); err != nil {
		return err
	}
	err := s.command("disk", "create", s.site(), "--channel", channel, "--config", config, "--add", own, "--loader", s.loader, "-o", s.disk(),
		"--cmdline", "ro console=ttyS0 no_timer_check twinkeel.record=PARTLABEL=bootenv twinkeel.deadman=600")
	if err != nil {
		return err
	}
	s.say("release 1.0 is published, and a disk is made of it")
	return nil
}

// publish publishes a release, with a delta from another if from is not empty.
func (s *show) publish(version, from string) error {
	args := []string{"publish", s.site(), "--channel", channel, "--version", version, "--compatible", compatible, "--deltas", "0", "--blocks-from", "-1",
		"--image", "root=" + s.image(version, "root"), "--image", "boot=" + s.image(version, "boot")}
	if from != "" {
		args = append(args, "--from", from)
	}
	return s.command(args...)
}

// image is the file that build.sh made of a release.
func (s *show) image(version, name string) string {
	dir := map[string]string{"1.0": "v1", "1.1": "v2", "1.2": "v3"}[version]
	return filepath.Join(s.images, dir, map[string]string{"root": "root.erofs", "boot": "boot.img"}[name])
}

func (s *show) passphrase() string { return filepath.Join(s.work, "passphrase") }

// command runs twinkeel-server.
func (s *show) command(args ...string) error {
	cmd := exec.CommandContext(s.ctx, filepath.Join(s.bin, "twinkeel-server"), args...)
	cmd.Env = append(os.Environ(), "TWINKEEL_PASSPHRASE_FILE="+s.passphrase())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("twinkeel-server %s: %w: %s", args[0], err, out)
	}
	return nil
}
