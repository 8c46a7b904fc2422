package mkfs

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/needs"
)

// The kernel is the judge of what was written: it says of every node what the tree said.
func TestKernelReadsWhatTheTreeSays(t *testing.T) {
	needs.That(t, os.Geteuid() == 0, "root, for mounts")
	dir := t.TempDir()
	for i := range 30 {
		tree := sample(t)
		if i > 0 {
			tree = randomTree(t, rand.New(rand.NewPCG(2, uint64(i))))
		}
		image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
		if err := os.WriteFile(image, write(t, tree), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mount", "-t", "erofs", "-o", "ro", image, at).CombinedOutput(); err != nil {
			needs.That(t, i > 0 || !strings.Contains(string(out), "unknown filesystem"), "a kernel with erofs")
			t.Fatalf("mount: %v\n%s", err, out)
		}
		got, err := listMounted(at)
		if err := syscall.Unmount(at, 0); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		listTree(tree, tree.root, "", want)
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if got[name] != want[name] {
				t.Fatalf("tree %d: %q:\ngot  %.300s\nwant %.300s", i, name, got[name], want[name])
			}
		}
		if len(got) != len(want) {
			t.Fatalf("tree %d: got %d names, want %d", i, len(got), len(want))
		}
	}
}

func listTree(tree *Tree, n *inode, name string, into map[string]string) {
	when := n.Time
	if when.IsZero() {
		when = epoch.Time
	}
	var content string
	switch n.Mode & Kind {
	case Regular:
		if n.Content != nil {
			content = string(n.Content.(Bytes))
		}
	case Symlink:
		content = n.Target
	}
	into[name] = line(n.Mode, n.UID, n.GID, n.nlink(), when, n.Major, n.Minor, content, n.Xattrs)
	for child, c := range n.children {
		listTree(tree, c, path.Join(name, child), into)
	}
}

func line(mode, uid, gid uint32, links int, when time.Time, major, minor uint32, content string, xattrs map[string]string) string {
	return fmt.Sprintf("%o %d:%d links %d %s dev %d:%d xattrs %q content %q", mode, uid, gid, links, when.UTC(), major, minor, xattrs, content)
}

func listMounted(at string) (map[string]string, error) {
	list := map[string]string{}
	return list, filepath.WalkDir(at, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var s syscall.Stat_t
		if err := syscall.Lstat(p, &s); err != nil {
			return err
		}
		var content string
		var xattrs map[string]string
		switch s.Mode & Kind {
		case Regular:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			content = string(b)
			fallthrough
		case Directory:
			if xattrs, err = readXattrs(p); err != nil {
				return err
			}
		case Symlink:
			if content, err = os.Readlink(p); err != nil {
				return err
			}
		}
		name, _ := filepath.Rel(at, p)
		if name == "." {
			name = ""
		}
		major, minor := uint32(s.Rdev>>8&0xfff), uint32(s.Rdev&0xff|s.Rdev>>12&0xfff00)
		list[name] = line(s.Mode, s.Uid, s.Gid, int(s.Nlink), time.Unix(s.Mtim.Sec, s.Mtim.Nsec), major, minor, content, xattrs)
		return nil
	})
}

func readXattrs(p string) (map[string]string, error) {
	b := make([]byte, 1<<16)
	n, err := syscall.Listxattr(p, b)
	if err != nil || n == 0 {
		return nil, err
	}
	list := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00") {
		v := make([]byte, 1<<16)
		n, err := syscall.Getxattr(p, name, v)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", p, name, err)
		}
		list[name] = string(v[:n])
	}
	return list, nil
}

// randomTree makes a tree by random changes, removals among them.
func randomTree(t *testing.T, r *rand.Rand) *Tree {
	tree := newTree(t)
	dirs, files := []string{""}, []string{}
	text := func(most int) string {
		b := make([]byte, r.IntN(most+1))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	}
	for range 20 + r.IntN(400) {
		letters := strings.Repeat(string(rune('!'+r.IntN(14))), 1+r.IntN(60)) + fmt.Sprint(r.IntN(50))
		name := path.Join(dirs[r.IntN(len(dirs))], letters)
		n := Node{Mode: uint32(r.IntN(0o10000)), UID: uint32(r.IntN(70000)), GID: uint32(r.IntN(9))}
		if r.IntN(3) == 0 {
			n.Time = time.Unix(int64(r.IntN(2000000000)), int64(r.IntN(1000000000)))
		}
		switch r.IntN(12) {
		case 0, 1:
			n.Mode |= Directory
		case 2:
			n.Mode |= Symlink
			n.Target = strings.Repeat("t", 1+r.IntN(maxTarget))
		case 3:
			n.Mode |= Character
			n.Major, n.Minor = uint32(r.IntN(1<<12)), uint32(r.IntN(1<<20))
		case 4:
			if len(files) > 0 {
				_ = tree.Link(name, files[r.IntN(len(files))]) // it may be gone
			}
			continue
		case 5:
			tree.Remove(name)
			continue
		default:
			content := text([]int{40, 3000, 9000}[r.IntN(3)])
			n.Mode, n.Size, n.Content = n.Mode|Regular, int64(len(content)), Bytes(content)
		}
		if k := n.Mode & Kind; r.IntN(4) == 0 && (k == Regular || k == Directory) {
			n.Xattrs = map[string]string{"user.a": text(300), "trusted.overlay." + letters: text([]int{10, 6000}[r.IntN(2)])}
		}
		if tree.Add(name, n) != nil {
			continue // a parent was removed or replaced
		}
		if n.IsDir() {
			dirs = append(dirs, name)
		} else {
			files = append(files, name)
		}
	}
	return tree
}
