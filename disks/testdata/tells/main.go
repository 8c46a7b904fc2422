// Command tells is the first program of a machine under test: it says on the console which
// file system is mounted at /data, and whether it can be written, and waits.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	kind, written := "nothing", "written"
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		kind = err.Error()
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "/data" {
			kind = f[2]
		}
	}
	if err := os.WriteFile("/data/told", []byte("x"), 0o600); err != nil {
		written = err.Error()
	}
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		console = os.Stdout
	}
	fmt.Fprintf(console, "DATA %s %s\n", kind, written)
	select {}
}
