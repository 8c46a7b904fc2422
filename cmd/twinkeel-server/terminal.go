package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/twinkeel/twinkeel/server"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// Rules of output:
//
//   - answers go to stdout, everything else to stderr, each line with the program's name;
//   - with --json, stdout is exactly one JSON value, also for errors that have a result;
//   - errors are lower case, without a full stop; "hint:" names the next action;
//   - progress is one line that changes on a terminal, and one line for each step elsewhere;
//   - control characters that came from outside are escaped.

// terminal is where a command reads and writes.
type terminal struct {
	in             *os.File
	out, err       io.Writer
	json, quiet    bool
	passphraseFile string
	keys           []string
	pluginDir      string

	step   string
	drawn  time.Time
	onLine bool
}

const program = "twinkeel-server"

// say prints one line of an answer.
func (t *terminal) say(format string, args ...any) {
	t.endProgress()
	fmt.Fprintln(t.out, printable(fmt.Sprintf(format, args...)))
}

func (t *terminal) complain(format string, args ...any) {
	t.endProgress()
	fmt.Fprintln(t.err, program+": "+printable(fmt.Sprintf(format, args...)))
}

func (t *terminal) hint(format string, args ...any) { t.complain("hint: "+format, args...) }

func (t *terminal) warn(warnings []string) {
	for _, w := range warnings {
		t.complain("warning: %s", w)
	}
}

// answer prints v as JSON if that was asked for, and otherwise calls human.
func (t *terminal) answer(v any, human func()) error {
	t.endProgress()
	if !t.json {
		human()
		return nil
	}
	e := json.NewEncoder(t.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printable escapes control characters but line feeds.
func printable(s string) string {
	clean := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) && r != ' ' }
	if strings.IndexFunc(s, clean) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if clean(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// progress shows how far a step has come.
func (t *terminal) progress(step string, done, total int64) {
	if t.quiet || t.json {
		return
	}
	f, ok := t.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		if step != t.step {
			t.step = step
			fmt.Fprintln(t.err, program+": "+printable(step))
		}
		return
	}
	if step == t.step && done < total && time.Since(t.drawn) < 100*time.Millisecond {
		return
	}
	if step != t.step {
		t.endProgress()
	}
	t.step, t.drawn, t.onLine = step, time.Now(), true
	percent := int64(100)
	if total > 0 {
		percent = done * 100 / total
	}
	fmt.Fprintf(t.err, "\r\x1b[K%s: %s %d %%", program, printable(step), percent)
}

func (t *terminal) endProgress() {
	if t.onLine {
		fmt.Fprintln(t.err)
		t.onLine = false
	}
}

// options are what every command hands to a site.
func (t *terminal) options() server.Options {
	return server.Options{Now: time.Now, Passphrase: t.passphrase, Keys: t.keys, Plugins: t.plugins(), Progress: t.progress}
}

// plugins are where keys live that are not files.
func (t *terminal) plugins() publisher.Plugins {
	dir := t.pluginDir
	if dir == "" {
		dir = os.Getenv("TWINKEEL_PLUGINS")
	}
	return publisher.Plugins{Dir: dir, Stderr: t.err}
}

// passphrase reads the passphrase of keys that exist.
func (t *terminal) passphrase() ([]byte, error) {
	if path := t.passphrasePath(); path != "" {
		return readPassphrase(path)
	}
	return t.askPassphrase("Passphrase: ")
}

// newPassphrase reads the passphrase of keys to be made, twice if a person types it.
func (t *terminal) newPassphrase() ([]byte, error) {
	if path := t.passphrasePath(); path != "" {
		return readPassphrase(path)
	}
	first, err := t.askPassphrase("New passphrase: ")
	if err != nil {
		return nil, err
	}
	second, err := t.askPassphrase("Once more: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("passphrase: the two entries differ")
	}
	return first, nil
}

func (t *terminal) passphrasePath() string {
	if t.passphraseFile != "" {
		return t.passphraseFile
	}
	return os.Getenv("TWINKEEL_PASSPHRASE_FILE")
}

func readPassphrase(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, 4096)).ReadBytes('\n')
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return nil, fmt.Errorf("passphrase: the first line of %s is empty", path)
	}
	return line, nil
}

func (t *terminal) askPassphrase(prompt string) ([]byte, error) {
	if t.in == nil || !term.IsTerminal(int(t.in.Fd())) {
		return nil, errors.New("passphrase: there is no terminal; use --passphrase-file or TWINKEEL_PASSPHRASE_FILE")
	}
	t.endProgress()
	fmt.Fprint(t.err, prompt)
	b, err := term.ReadPassword(int(t.in.Fd()))
	fmt.Fprintln(t.err)
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	if len(b) == 0 {
		return nil, errors.New("passphrase: it is empty")
	}
	return b, nil
}
