package vm

import (
	"fmt"
	"os"
	"strings"
)

// Access is a read or a write of its disk that a machine asked for.
type Access struct {
	At, Size int64 // in bytes
	Write    bool
}

// What QEMU calls them; both are seen whoever asks, firmware, loader or kernel.
const (
	traceRead  = "virtio_blk_handle_read"
	traceWrite = "virtio_blk_handle_write"
)

// trace returns the arguments for the file that takes every access to the disk.
func (c Config) trace() []string {
	if c.Trace == "" {
		return nil
	}
	return []string{"-D", c.Trace, "-trace", traceRead, "-trace", traceWrite}
}

// ReadTrace reads what a machine with Config.Trace has asked for so far, in that order. A line that is
// not whole yet is left out.
func ReadTrace(path string) (list []Access, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok || !strings.HasSuffix(line, "\n") || name != traceRead && name != traceWrite {
			continue
		}
		_, rest, _ = strings.Cut(rest, " sector ")
		var at, size int64
		if _, err := fmt.Sscanf(rest, "%d nsectors %d", &at, &size); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		list = append(list, Access{at * sector, size * sector, name == traceWrite}) // of 512 bytes, whatever the disk's are
	}
	return list, nil
}
