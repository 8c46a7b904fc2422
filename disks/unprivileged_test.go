package disks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/twinkeel/twinkeel/images"
	"github.com/twinkeel/twinkeel/internal/needs"
)

// nobody is a user without any right, and asNobody says that the process runs as it.
const (
	nobody   = 65534
	asNobody = "TWINKEEL_TEST_AS_NOBODY"
)

// TestImagesAndDisksAreMadeWithoutRoot runs what follows once more as a user without rights:
// images of a directory, and a disk of them on each file system.
func TestImagesAndDisksAreMadeWithoutRoot(t *testing.T) {
	requireTools(t, "mkfs.vfat", "mcopy", "grub-mkimage", "mke2fs", "debugfs", "mkfs.xfs", "mkfs.btrfs", "btrfs")
	if os.Getenv(asNobody) != "" || os.Geteuid() != 0 {
		withoutRoot(t)
		return
	}
	// Below /tmp and not in a directory of the test, which is root's alone.
	dir, err := os.MkdirTemp("", "twinkeel-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	program, err := os.OpenFile(filepath.Join(dir, "test"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(program, self)
	if err := errors.Join(err, program.Close(), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program.Name(), "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), asNobody+"=1", "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("as user %d: %v\n%s", nobody, err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("%s", out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Fatalf("as user %d: got\n%s", nobody, out)
	}
}

// withoutRoot is the test, run by whoever it is.
func withoutRoot(t *testing.T) {
	err := run(t.Context(), "true")
	needs.That(t, !errors.Is(err, os.ErrPermission), fmt.Sprint("user namespaces: ", err))
	const modules = "usr/lib/modules/6.1/"
	tree := grow(t, map[string]string{
		images.FirstStage: "first stage", "usr/share/filler": strings.Repeat("x", 20<<10), "boot/vmlinuz-6.1": strings.Repeat("kernel", 1<<10),
		modules + "modules.dep": "kernel/sound.ko:\n", modules + "modules.builtin": "dm-verity.ko\nerofs.ko\noverlay.ko\next4.ko\nxfs.ko\nbtrfs.ko\n",
	})
	o := built(t, tree, images.Options{Loader: images.GRUB})
	secret := filepath.Join(etcDir, "ssh/ssh_host_key")
	o.Data.Extra = grow(t, map[string]string{secret: "secret"})
	for fs, owners := range map[string][]string{
		"ext4":  {"debugfs", "-R", "stat " + secret},
		"xfs":   nil, // its tool is told the owner of each file
		"btrfs": {"btrfs", "inspect-internal", "dump-tree", "-t", "5"},
	} {
		o.Data.FileSystem = fs
		path := filepath.Join(t.TempDir(), "disk")
		r, err := Create(t.Context(), path, o)
		if err != nil {
			t.Errorf("%s: %v", fs, err)
			continue
		}
		if owners == nil {
			continue
		}
		last := r.Partitions[len(r.Partitions)-1]
		data := filepath.Join(t.TempDir(), "data")
		if err := cut(path, data, last.Start, last.Size); err != nil {
			t.Fatal(err)
		}
		tool, err := find(owners[0])
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, append(owners[1:], data)...).Output()
		said := strings.Join(strings.Fields(string(out)), " ")
		if err != nil || strings.Contains(said, "65534") || !strings.Contains(said, "uid 0 gid 0") && !strings.Contains(said, "User: 0 Group: 0") {
			t.Errorf("%s: files are not root's: %v: %.2000s", fs, err, said)
		}
	}
}

// cut copies a range of a file into another.
func cut(from, to string, at, n int64) error {
	disk, err := os.Open(from)
	if err != nil {
		return err
	}
	defer disk.Close()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(n); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{sparseFile(f)}, struct{ io.Reader }{io.NewSectionReader(disk, at, n)}, make([]byte, 1<<20))
	return err
}

// sparseFile writes to a file what is not zero.
func sparseFile(f *os.File) io.Writer { return io.NewOffsetWriter(sparse{io.NewOffsetWriter(f, 0)}, 0) }
