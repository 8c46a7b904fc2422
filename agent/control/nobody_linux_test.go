package control

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody connects from a thread with another user id. Credentials belong to threads
// on Linux; the thread is never unlocked, so the runtime throws it away.
func asNobody(t *testing.T) {
	c := start(t, answer("fine"), own())
	for p := filepath.Dir(c.Path); len(p) > len(os.TempDir()); p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := os.Chmod(c.Path, 0o666); err != nil {
			t.Error(err)
			return
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			t.Errorf("become nobody: %v", errno)
			return
		}
		strangers(t, c)
	}()
	<-done
}
