// Command tells is the first program of a machine under test: it says on the console which
// file system is mounted at /data, whether it can be written, and what every boot that wrote
// has left there, and waits.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	kind := "nothing"
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		kind = err.Error()
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "/data" {
			kind = f[2]
		}
	}
	written, err := tell("/data/told")
	if err != nil {
		written = err.Error()
	}
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		console = os.Stdout
	}
	fmt.Fprintf(console, "DATA %s %s\n", kind, written)
	select {}
}

// tell adds a letter to a file, for good, and returns what has become of it.
func tell(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := f.WriteString("x"); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	return "written " + string(b), err
}
