package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 { // the agent's reboot command
		say("reboot asked for")
		reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	if err := run(); err != nil {
		say("fatal: %v", err)
	}
	// The end of PID 1 is a kernel panic.
}

func say(format string, args ...any) { fmt.Printf("VM "+format+"\n", args...) }

// run is the life of the machine.
func run() error {
	behaviour, err := word("/etc/e2e")
	if err != nil {
		return err
	}
	version, err := word("/etc/release")
	if err != nil {
		return err
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	say("up slot=%s release=%s trial=%s fallback=%s data=%s pstore=%d id=%s version=%s roothash=%s e2e=%s",
		option(line, "slot"), version, option(line, "trial"), option(line, "fallback"), dataState(), saved(), hostID(),
		option(line, "version"), option(line, "roothash"), value(line, "e2e"))
	keep()
	switch behaviour {
	case "panic":
		return errors.New("this release has no init to speak of")
	case "hang":
		hang()
	case "stuck":
		return stuck()
	case "hog":
		return hog()
	case "standstill":
		return standstill()
	}
	if err := network(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if err := errors.Join(groups(), os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")); err != nil {
		return err
	}
	go serve(behaviour != "unhealthy")
	if behaviour == "badconfig" {
		if err := os.WriteFile("/etc/twinkeel/twinkeel.toml", []byte("servre = 1\n"), 0o644); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/data/manifest.json"); err == nil {
		adopt()
	}
	go agent(behaviour == "newformat")
	return obey(os.Stdin)
}

// word returns a file of one word.
func word(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// option returns what the loader said on the kernel's command line.
func option(line []byte, name string) string { return value(line, "twinkeel."+name) }

// value returns what a name stands for on the kernel's command line.
func value(line []byte, name string) string {
	for _, w := range strings.Fields(string(line)) {
		if v, ok := strings.CutPrefix(w, name+"="); ok {
			return v
		}
	}
	return "-"
}

// dataState says what became of the data partition.
func dataState() string {
	var st unix.Statfs_t
	if err := unix.Statfs("/data/twinkeel", &st); err != nil {
		return "none"
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return "read-only"
	}
	return "writable"
}

// saved is how many logs of panics are left in pstore.
func saved() int {
	entries, err := os.ReadDir("/sys/fs/pstore")
	if err != nil {
		return 0 // this kernel has none
	}
	return len(entries)
}

// keep writes this boot down, durably, and says so: it has to be there after any power cut.
func keep() {
	f, err := os.OpenFile("/data/boots", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return // the data partition is not what it was, which "VM up" says
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return
	}
	n := st.Size()/8 + 1
	if _, err = fmt.Fprintf(f, "%07d\n", n); err == nil && f.Sync() == nil {
		say("kept %d", n)
	}
}

// hostID shows whether the machine is the same one in both slots.
func hostID() string {
	id, err := word("/etc/machine-id")
	if err != nil {
		return "none"
	}
	return id
}

// serve is the service that the release is there for.
func serve(healthy bool) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !healthy {
			http.Error(w, "not today", http.StatusServiceUnavailable)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:80")
	if err == nil {
		say("serves healthy=%t", healthy)
		err = http.Serve(l, h)
	}
	say("service ended: %v", err)
}

// adopt has the factory's release adopted, in the machine's first boot.
func adopt() {
	say("adopts")
	command([]string{"/usr/bin/twinkeel", "init", "--manifest", "/data/manifest.json"})
	if err := os.Remove("/data/manifest.json"); err != nil {
		say("adopt: %v", err)
	}
	say("adopted")
}

// agent keeps the real agent running, as a service manager does. One that dies takes the
// machine with it when it comes to judge its trial.
func agent(dies bool) {
	for {
		cmd := exec.Command("/usr/bin/twinkeeld")
		out, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			say("agent: %v", err)
			return
		}
		s := bufio.NewScanner(out)
		for s.Scan() {
			fmt.Println("AG " + s.Text())
			if dies && strings.Contains(s.Text(), "step=judge") {
				say("the agent died")
				reboot(unix.LINUX_REBOOT_CMD_RESTART)
			}
		}
		say("agent ended: %v", cmd.Wait())
		time.Sleep(2 * time.Second)
	}
}

// obey carries out orders until one of them ends the machine.
func obey(orders io.Reader) error {
	s := bufio.NewScanner(orders)
	for s.Scan() {
		words := strings.Fields(s.Text())
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "run":
			command(words[1:])
		case "show":
			show(words[1:])
		case "read":
			read(words[1:])
		case "put":
			put(words[1:])
		case "fill", "remove":
			fill(words[0], words[1:])
		case "reboot":
			reboot(unix.LINUX_REBOOT_CMD_RESTART)
		case "off":
			reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		default:
			say("no such order: %s", words[0])
		}
	}
	return errors.Join(errors.New("no more orders"), s.Err())
}

// read reads a whole file.
func read(words []string) {
	for _, path := range words {
		b, err := os.ReadFile(path)
		say("read %d bytes: %v", len(b), err)
	}
}

// put makes a file that holds words, durably.
func put(words []string) {
	if len(words) < 2 {
		return
	}
	if err := os.WriteFile(words[0], []byte(strings.Join(words[1:], " ")), 0o644); err != nil {
		say("put nothing: %v", err)
		return
	}
	unix.Sync()
	say("put")
}

// fill makes a file that takes all room there is, or removes it.
func fill(order string, words []string) {
	if len(words) != 1 {
		return
	}
	if order == "remove" {
		say("removed %v", os.Remove(words[0]))
		return
	}
	f, err := os.Create(words[0])
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	say("filled: %v, %v", err, f.Sync())
}

func command(words []string) {
	if len(words) == 0 {
		say("ran -1")
		return
	}
	cmd := exec.Command(words[0], words[1:]...)
	out, err := cmd.StdoutPipe()
	cmd.Stderr = cmd.Stdout
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Println("OUT " + err.Error())
		say("ran -1")
		return
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		fmt.Println("OUT " + s.Text())
	}
	_ = cmd.Wait() // its code says it
	say("ran %d", cmd.ProcessState.ExitCode())
}

func reboot(how int) {
	unix.Sync()
	time.Sleep(100 * time.Millisecond) // for the console
	if err := unix.Reboot(how); err != nil {
		say("reboot: %v", err)
	}
	select {}
}
