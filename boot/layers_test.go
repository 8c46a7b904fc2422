package boot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/twinkeel/twinkeel/release"
)

// machine is a data partition over several boots.
type machine struct {
	*testing.T
	dir string
}

// boots carries out what a boot does to /etc, and returns upper layer and identity.
func (m machine) boots(image string, trial bool) (upper, id string) {
	m.Helper()
	own, lower, err := layers{dir: m.dir}.etc(Order{Root: release.DigestOf([]byte(image)), Trial: trial})
	if err != nil {
		m.Fatal(err)
	}
	if len(lower) != 1 {
		m.Fatalf("lower layers: got %q", lower)
	}
	upper = filepath.Join(own, "upper")
	if err := mkdirs(upper); err != nil {
		m.Fatal(err)
	}
	return upper, lower[0]
}

func (m machine) write(path, content string) {
	m.Helper()
	if err := mkdirs(filepath.Dir(path)); err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		m.Fatal(err)
	}
}

func (m machine) holds(path, want string) {
	m.Helper()
	b, err := os.ReadFile(path)
	if want == "" && os.IsNotExist(err) {
		return
	}
	if err != nil || string(b) != want {
		m.Errorf("%s: got %q, %v, want %q", path, b, err, want)
	}
}

func TestWhatATrialChangedUnderEtcGoesBackWithIt(t *testing.T) {
	m := machine{t, t.TempDir()}
	upper, _ := m.boots("one", false)
	m.write(filepath.Join(upper, "motd"), "of one")

	upper, _ = m.boots("two", true)
	m.holds(filepath.Join(upper, "motd"), "of one") // it begins with what stands
	m.write(filepath.Join(upper, "motd"), "of two")
	m.write(filepath.Join(upper, "hostname"), "renamed")

	upper, id := m.boots("one", false) // it was left
	m.holds(filepath.Join(upper, "motd"), "of one")
	m.holds(filepath.Join(id, "hostname"), "")

	upper, _ = m.boots("two", true) // armed once more: nothing of the first trial is there
	m.holds(filepath.Join(upper, "motd"), "of one")
	m.holds(filepath.Join(upper, "hostname"), "")
	m.write(filepath.Join(upper, "motd"), "of two")

	upper, _ = m.boots("two", false) // it was committed
	m.holds(filepath.Join(upper, "motd"), "of two")
	upper, _ = m.boots("one", true) // the way back begins with what stands, too
	m.holds(filepath.Join(upper, "motd"), "of two")
}

func TestIdentityIsSharedOnceACommittedSlotHasIt(t *testing.T) {
	m := machine{t, t.TempDir()}
	upper, _ := m.boots("one", false)
	m.write(filepath.Join(upper, "ssh/ssh_host_ed25519_key"), "key")
	m.write(filepath.Join(upper, "ssh/sshd_config"), "config")
	m.write(filepath.Join(upper, "twinkeel/conf.d/10.toml"), "x = 1")
	upper, id := m.boots("one", false)
	m.holds(filepath.Join(id, "ssh/ssh_host_ed25519_key"), "key")
	m.holds(filepath.Join(id, "twinkeel/conf.d/10.toml"), "x = 1")
	m.holds(filepath.Join(upper, "ssh/ssh_host_ed25519_key"), "")
	m.holds(filepath.Join(upper, "ssh/sshd_config"), "config")
	m.holds(filepath.Join(id, "ssh/sshd_config"), "")
	if st, err := os.Stat(filepath.Join(id, "ssh/ssh_host_ed25519_key")); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode: got %v, %v", st, err)
	}
}

func TestWithoutADataPartitionLayersAreMemory(t *testing.T) {
	dir, read := t.TempDir(), t.TempDir()
	o := Order{Root: release.DigestOf([]byte("one"))}
	own, lower, err := layers{dir: dir, volatile: true, readable: read}.etc(o)
	if err != nil || filepath.Dir(filepath.Dir(own)) != dir || len(lower) != 0 {
		t.Errorf("got %s, %q, %v", own, lower, err)
	}
	if err := mkdirs(filepath.Join(read, layersDir, "identity")); err != nil {
		t.Fatal(err)
	}
	if _, lower, err = (layers{dir: dir, volatile: true, readable: read}).etc(o); err != nil || len(lower) != 1 {
		t.Errorf("a data partition that can be read keeps the identity: got %q, %v", lower, err)
	}
}

func TestATreeIsCopiedWithLinksAndModes(t *testing.T) {
	m := machine{t, t.TempDir()}
	from, to := filepath.Join(m.dir, "from"), filepath.Join(m.dir, "to")
	m.write(filepath.Join(from, "d/file"), "content")
	if err := os.Symlink("../nowhere", filepath.Join(from, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(from, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // over itself, too
		if err := copyTree(from, to); err != nil {
			t.Fatal(err)
		}
	}
	m.holds(filepath.Join(to, "d/file"), "content")
	if got, err := os.Readlink(filepath.Join(to, "link")); err != nil || got != "../nowhere" {
		t.Errorf("link: got %q, %v", got, err)
	}
	if st, err := os.Stat(filepath.Join(to, "d")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode: got %v, %v", st, err)
	}
}

func TestADirectoryIsWritableOnlyIfAFileCanBeMadeInIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "twinkeel")
	if err := canWrite(dir); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
	// proc takes no files, not even from root.
	if err := canWrite("/proc"); err == nil {
		t.Error("/proc was taken for writable")
	}
}

func TestBootsAreCountedUntilOneSettles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "unsettled")
	for want := int64(1); want <= 3; want++ {
		if got, err := countBoot(path); err != nil || got != want {
			t.Fatalf("got %d, %v, want %d", got, err, want)
		}
	}
}

func TestFileSystemsAreKnownByTheirSuperblocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	for _, f := range fileSystems {
		b := make([]byte, 128<<10)
		copy(b[f.offset:], f.magic)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := kindOf(path); got != f.kind || err != nil {
			t.Errorf("%s: got %q, %v", f.kind, got, err)
		}
	}
	for _, n := range []int{0, 100, 128 << 10} {
		if err := os.WriteFile(path, make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := kindOf(path); err == nil {
			t.Errorf("%d zeros: got %q", n, got)
		}
	}
}

func TestWhatIsMountedAlreadyIsKnown(t *testing.T) {
	if !mounted("/proc") || mounted(t.TempDir()) || mounted("/proc/nowhere") {
		t.Error("/proc is mounted, a new directory and what is not there are not")
	}
}
