package vm

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestATraceIsReadAsFarAsItsLinesAreWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	text := "virtio_blk_handle_read vdev 0x55 req 0x56 sector 0 nsectors 1\n" +
		"warning: something else\n" +
		"virtio_blk_handle_write vdev 0x55 req 0x56 sector 20480 nsectors 8\n" +
		"virtio_blk_handle_read vdev 0x55 req 0x56 sector 7 nsec"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadTrace(path)
	if want := []Access{{0, 512, false}, {10 << 20, 4096, true}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if err := os.WriteFile(path, []byte("virtio_blk_handle_read vdev 0x55 req 0x56 at 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadTrace(path); err == nil {
		t.Errorf("a line that is not understood: got %v", got)
	}
}
