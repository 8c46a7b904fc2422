package durable

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/needs"
)

func open(t testing.TB) (Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	d, err := OpenDir(path, true)
	if err != nil {
		t.Fatal(err)
	}
	return d, path
}

func replace(t testing.TB, d Dir, name, content string) {
	t.Helper()
	if err := d.Replace(name, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func wantContent(t testing.TB, d Dir, name, want string) {
	t.Helper()
	if got, err := d.Read(name); err != nil || string(got) != want {
		t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
	}
}

func wantList(t testing.TB, d Dir, want ...string) {
	t.Helper()
	if got, err := d.List(); err != nil || !slices.Equal(got, want) {
		t.Errorf("list: got %q, %v; want %q", got, err, want)
	}
}

func TestReplaceReadListRemove(t *testing.T) {
	d, path := open(t)
	if _, err := d.Read("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: got %v, want fs.ErrNotExist", err)
	}
	wantList(t, d)
	replace(t, d, "b", "1")
	replace(t, d, "a", "")
	replace(t, d, "b", strings.Repeat("2", 100000))
	wantContent(t, d, "b", strings.Repeat("2", 100000))
	wantContent(t, d, "a", "")
	wantList(t, d, "a", "b")
	if st, err := os.Stat(filepath.Join(path, "a")); err != nil || st.Mode() != 0o600 {
		t.Errorf("mode: got %v, %v; want 0600", st.Mode(), err)
	}
	for range 2 { // a file that is not there is no error
		if err := d.Remove("b"); err != nil {
			t.Error(err)
		}
	}
	wantList(t, d, "a")
	if entries, err := os.ReadDir(path); err != nil || len(entries) != 1 {
		t.Errorf("temporary files are left: %v, %v", entries, err)
	}
}

func TestNamesThatAreNoPlainFileNamesAreRefused(t *testing.T) {
	d, _ := open(t)
	for _, name := range []string{"", ".", "..", ".x", "a/b", "/a", "../a", "a\x00b", "a\nb", "a\x7f", strings.Repeat("x", 201)} {
		if _, err := d.Read(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read %q: %v", name, err)
		}
		if err := d.Replace(name, nil); err == nil {
			t.Errorf("replace %q was done", name)
		}
		if err := d.Remove(name); err == nil {
			t.Errorf("remove %q was done", name)
		}
		if _, err := d.Sub(name); err == nil {
			t.Errorf("sub %q was opened", name)
		}
	}
	replace(t, d, strings.Repeat("x", 200), "longest")
}

func TestFilesBeyondTheLimitAreRefused(t *testing.T) {
	d, path := open(t)
	replace(t, d, "a", "before")
	if err := d.Replace("a", make([]byte, MaxFile+1)); err == nil {
		t.Error("a file that could not be read again was written")
	}
	wantContent(t, d, "a", "before")
	replace(t, d, "a", strings.Repeat("x", MaxFile))
	wantContent(t, d, "a", strings.Repeat("x", MaxFile))
	if err := os.Truncate(filepath.Join(path, "a"), 1<<40); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Read("a"); err == nil {
		t.Errorf("read %d bytes of a file that grew", len(b))
	}
}

func TestOnlyRegularFilesAreRead(t *testing.T) {
	d, path := open(t)
	if err := unix.Mkfifo(filepath.Join(path, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(path, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(path, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fifo", "link", "dir"} {
		if b, err := d.Read(name); err == nil {
			t.Errorf("%s: read %q", name, b)
		}
	}
	wantList(t, d)
	// A link is replaced, not followed.
	replace(t, d, "link", "new")
	wantContent(t, d, "link", "new")
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("what the link led to holds %q, %v", b, err)
	}
	if err := d.Replace("dir", nil); err == nil {
		t.Error("a directory was replaced")
	}
}

func TestLockIsHeldByOne(t *testing.T) {
	d, path := open(t)
	unlock, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenDir(path, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []Dir{d, again} {
		if _, err := other.Lock(); !errors.Is(err, ErrLocked) {
			t.Errorf("second lock: got %v, want ErrLocked", err)
		}
	}
	unlock()
	unlock2, err := again.Lock()
	if err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	unlock2()
}

func TestLeftoversGoOnlyUnderTheLock(t *testing.T) {
	d, path := open(t)
	sub, err := d.Sub("sub")
	if err != nil {
		t.Fatal(err)
	}
	replace(t, d, "journal.json", "1")
	replace(t, sub, "root.json", "2")
	left := []string{".journal.json5577006791947779410", "sub/.root.json8674665223082153551"}
	own := []string{".hidden", ".gitignore", ".x123", "sub/.keep"}
	for _, name := range append(slices.Clone(left), own...) {
		if err := os.WriteFile(filepath.Join(path, name), []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there := func(names []string, want bool) {
		t.Helper()
		for _, name := range names {
			if _, err := os.Lstat(filepath.Join(path, name)); (err == nil) != want {
				t.Errorf("%s: is there: %v, want %v", name, err == nil, want)
			}
		}
	}
	again, err := OpenDir(path, true)
	if err != nil {
		t.Fatal(err)
	}
	wantList(t, again, "journal.json")
	there(left, true) // they may be those of a Replace under way
	unlock, err := again.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	there(left, false)
	there(own, true)
	wantContent(t, d, "journal.json", "1")
	wantContent(t, sub, "root.json", "2")
}

func TestOpenDirMakesOnlyWhatItIsAskedToMake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a/b/c")
	if _, err := OpenDir(path, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if _, err := OpenDir(path, true); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode: got %v, %v; want 0700", st.Mode(), err)
	}
	file := filepath.Join(path, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, create := range []bool{false, true} {
		if _, err := OpenDir(file, create); err == nil {
			t.Error("a file was opened as a directory")
		}
		if _, err := OpenDir(filepath.Join(file, "x"), create); err == nil {
			t.Error("a directory was opened below a file")
		}
	}
}

// child is what the test binary does when it is started again: the value of the
// environment variable of the same name, over the directory in TWINKEEL_DIR.
const child = "TWINKEEL_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(child) {
	case "":
		os.Exit(m.Run())
	case "once":
		writeOnce()
	case "forever":
		writeForever()
	}
}

func childDir() Dir {
	d, err := OpenDir(os.Getenv("TWINKEEL_DIR"), true)
	if err != nil {
		panic(err)
	}
	return d
}

func writeOnce() {
	if err := childDir().Replace("journal.json", []byte("content")); err != nil {
		panic(err)
	}
}

// generation is content that shows when it is torn or mixed.
func generation(n int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%012d\n", n)), 1000+n%7*500)
}

func writeForever() {
	d := childDir()
	for n := 1; ; n++ {
		if err := d.Replace("journal.json", generation(n)); err != nil {
			panic(err)
		}
		fmt.Println(n) // acknowledged
	}
}

func start(t *testing.T, what, dir string, wrap ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(wrap, exe)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), child+"="+what, "TWINKEEL_DIR="+dir)
	return cmd
}

// A writer that is killed at any moment leaves the whole of what it wrote last, or of
// what it was about to write.
func TestAKilledWriterNeverLeavesATornFile(t *testing.T) {
	d, path := open(t)
	for round := range 50 {
		cmd := start(t, "forever", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		acknowledged := 0
		for acknowledged <= round%5 && lines.Scan() {
			if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it still said before it died
			if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait() // killed: always an error
		got, err := d.Read("journal.json")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, generation(acknowledged)) && !bytes.Equal(got, generation(acknowledged+1)) {
			t.Fatalf("round %d: %d were acknowledged, and the file holds %d bytes beginning with %.13q", round, acknowledged, len(got), got)
		}
	}
	unlock, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if entries, err := os.ReadDir(path); err != nil || len(entries) != 1 {
		t.Errorf("after the lock was taken there are %v, %v", entries, err)
	}
}

// The order of the system calls is the promise: content synced, renamed, directory
// synced; and a new directory's own entry is synced before anything relies on it.
func TestReplaceSyncsContentThenRenamesThenSyncsTheDirectory(t *testing.T) {
	needs.Tools(t, "strace")
	top := t.TempDir()
	dir := filepath.Join(top, "state")
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := start(t, "once", dir, "strace", "-f", "-y", "-qq", "-s", "4096", "-o", trace, "-e", "trace=mkdirat,mkdir,fsync,fdatasync,rename,renameat,renameat2")
	if out, err := cmd.CombinedOutput(); err != nil {
		needs.That(t, !bytes.Contains(bytes.ToLower(out), []byte("ptrace")), fmt.Sprintf("leave to trace processes: %s", out))
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, step := range []struct{ name, form string }{
		{"make directory", `(?m)^.*mkdir(at)?\([^\n]*` + regexp.QuoteMeta(dir) + `"`},
		{"sync its parent", `(?m)^.*fsync\([0-9]+<` + regexp.QuoteMeta(top) + `>\)`},
		{"sync content", `(?m)^.*f(data)?sync\([0-9]+<` + regexp.QuoteMeta(dir) + `/\.journal\.json[0-9]+>`},
		{"rename", `(?m)^.*rename(at|at2)?\([^\n]*` + regexp.QuoteMeta(dir) + `/journal\.json"`},
		{"sync directory", `(?m)^.*fsync\([0-9]+<` + regexp.QuoteMeta(dir) + `>\)`},
	} {
		at := regexp.MustCompile(step.form).FindIndex(b)
		if at == nil {
			t.Fatalf("%s: is missing, or not in its place, after %q:\n%s", step.name, got, b)
		}
		b = b[at[1]:]
		got = append(got, step.name)
	}
}

func TestSubIsADirectoryOfItsOwn(t *testing.T) {
	d, path := open(t)
	sub, err := d.Sub("trust")
	if err != nil {
		t.Fatal(err)
	}
	replace(t, d, "a", "above")
	replace(t, sub, "a", "below")
	wantContent(t, d, "a", "above")
	wantContent(t, sub, "a", "below")
	wantList(t, d, "a") // directories are no files
	again, err := OpenDir(filepath.Join(path, "trust"), false)
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, again, "a", "below")
	if _, err := d.Sub("a"); err == nil {
		t.Error("a file was opened as a directory")
	}
}
