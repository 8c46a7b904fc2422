package crashrig

import (
	"fmt"
	"os"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
)

// inMemory returns a directory for the images, in memory where there is one.
func inMemory(t *testing.T) string {
	t.Helper()
	err := available()
	needs.That(t, err == nil, fmt.Sprintf("root and FUSE: %v", err))
	dir, err := os.MkdirTemp("/dev/shm", "crashrig")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Nothing that durable acknowledged is lost, and nothing is torn, on a real ext4, in any
// of the states that a power cut may leave.
func TestAcknowledgedWritesSurviveEveryCrashStateOfExt4(t *testing.T) {
	n := 150
	if testing.Short() {
		n = 20
	}
	r, err := Run(inMemory(t), FileSystems()[0], Durable, n, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	if r.Lost > 0 || r.Torn > 0 || r.Flushes == 0 {
		t.Errorf("got %d lost, %d torn, %d flushes: %s", r.Lost, r.Torn, r.Flushes, r.First)
	}
}

// The rig sees a loss where there is one: without the directory's sync.
func TestTheRigSeesWhatIsLostWithoutADirectorySync(t *testing.T) {
	r, err := Run(inMemory(t), FileSystems()[0], Renamed, 30, 2)
	if err != nil {
		t.Fatal(err)
	}
	if t.Logf("%+v", r); r.Lost == 0 {
		t.Error("nothing was lost")
	}
}

func TestOtherFileSystemsKeepAcknowledgedWrites(t *testing.T) {
	if os.Getenv("TWINKEEL_LONG") == "" {
		t.Skip("runs in make campaign")
	}
	for _, fs := range FileSystems() {
		t.Run(fs.Name, func(t *testing.T) {
			needs.Tools(t, fs.Make[0])
			r, err := Run(inMemory(t), fs, Durable, 1000, 3)
			if err != nil {
				t.Fatal(err)
			}
			if t.Logf("%+v", r); r.Lost > 0 || r.Torn > 0 {
				t.Errorf("got %d lost, %d torn: %s", r.Lost, r.Torn, r.First)
			}
		})
	}
}
