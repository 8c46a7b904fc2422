package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

func main() {
	g := guest{say: func(format string, args ...any) { fmt.Fprintf(os.Stdout, "VM "+format+"\n", args...) }}
	if err := g.run(os.Stdin); err != nil {
		g.say("fatal: %v", err)
	}
	time.Sleep(100 * time.Millisecond) // for the console
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

// guest is the machine from inside.
type guest struct {
	say    func(format string, args ...any)
	dir    string // what the orders' files are relative to
	loader bootloader.BootLoader
	boot   bootloader.Boot
}

// run says hello and carries out orders until one of them ends the machine.
func (g *guest) run(orders io.Reader) error {
	if err := start(g.say); err != nil {
		return err
	}
	version, err := os.ReadFile("/release")
	if err != nil {
		return err
	}
	if err := g.open(); err != nil {
		return err
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	trial := strings.Contains(string(line), "twinkeel.trial=1")
	g.say("up slot=%s release=%s trial=%t fallback=%t", g.boot.Slot, strings.TrimSpace(string(version)), trial, g.boot.Fallback)
	if err := g.show(); err != nil {
		g.say("error: %v", err)
	}
	g.say("ready")
	s := bufio.NewScanner(orders)
	for s.Scan() {
		words := strings.Fields(s.Text())
		if len(words) == 0 {
			continue
		}
		if err := g.order(words[0], words[1:]); err != nil {
			g.say("error: %s: %v", s.Text(), err)
		} else {
			g.say("done %s", s.Text())
		}
	}
	return errors.Join(errors.New("no more orders"), s.Err())
}

// order carries out one order.
func (g *guest) order(name string, args []string) error {
	path := func(i int) string { return filepath.Join(g.dir, args[i]) }
	if want := map[string]int{"arm": 2, "clear": 1, "noise": 1, "remove": 1, "list": 1, "copy": 2, "mount": 1}[name]; len(args) != want {
		return fmt.Errorf("got %d words, want %d", len(args), want)
	}
	switch name {
	case "arm":
		return g.arm(args[0], args[1])
	case "clear":
		return g.change(func(s bootloader.State) (bootloader.State, error) {
			slot, err := partitions.ParseSlot(args[0])
			if err != nil {
				return s, err
			}
			return s.Clear(slot)
		})
	case "commit":
		return g.change(func(s bootloader.State) (bootloader.State, error) { return s.Commit(g.boot.Slot), nil })
	case "revert":
		return g.change(func(s bootloader.State) (bootloader.State, error) { return s.Revert(g.boot.Slot) })
	case "show":
		return g.show()
	case "noise":
		return noise(path(0))
	case "remove":
		return errors.Join(os.Remove(path(0)), syncDir(g.dir))
	case "list":
		return g.list(path(0))
	case "copy":
		return copyFile(path(0), path(1))
	case "mount":
		dir, err := mount(args[0])
		g.dir = dir
		return err
	case "reboot":
		unix.Sync()
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	case "off":
		unix.Sync()
		return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	return errors.New("no such order")
}

// arm describes a slot, if it is cleared, and makes it the trial.
func (g *guest) arm(name, count string) error {
	slot, err := partitions.ParseSlot(name)
	if err != nil {
		return err
	}
	tries, err := strconv.ParseUint(count, 10, 8)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := g.loader.Load(ctx)
	if err != nil {
		return err
	}
	if s.Slots[slot].Priority == 0 {
		d, err := description(slot)
		if err != nil {
			return err
		}
		if err := g.loader.Describe(ctx, slot, d); err != nil {
			return err
		}
	}
	return g.change(func(s bootloader.State) (bootloader.State, error) { return s.Arm(slot, uint8(tries)) })
}

// description is that of no real release: the loader passes it on and that is seen.
func description(slot partitions.Slot) (bootloader.Description, error) {
	v, err := release.ParseVersion("1." + strconv.Itoa(int(slot)))
	return bootloader.Description{Version: v, Root: release.DigestOf([]byte(slot.String())), Salt: release.Salt{1, 2}, HashOffset: 4096}, err
}

// change loads the record, changes it and stores it.
func (g *guest) change(by func(bootloader.State) (bootloader.State, error)) error {
	ctx := context.Background()
	s, err := g.loader.Load(ctx)
	if err != nil {
		return err
	}
	if s, err = by(s); err != nil {
		return err
	}
	if err := g.loader.Store(ctx, s); err != nil {
		return err
	}
	return g.show()
}

// show says what the record holds.
func (g *guest) show() error {
	s, err := g.loader.Load(context.Background())
	if err != nil {
		return err
	}
	text := func(r bootloader.Record) string {
		return fmt.Sprintf("%d/%d/%t", r.Priority, r.Tries, r.Successful)
	}
	g.say("record a=%s b=%s", text(s.Slots[0]), text(s.Slots[1]))
	return nil
}

// list says what a directory holds.
func (g *guest) list(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	sort.Strings(names)
	g.say("list %s", strings.Join(names, " "))
	return nil
}
