package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/erofs/mkfs"
)

// take is told of every node of a source, parents first.
type take func(name string, n mkfs.Node, linkTo string) error

// fileContent is the content of a file on this machine.
type fileContent string

// Open implements mkfs.Content.
func (f fileContent) Open() (io.ReadCloser, error) { return os.Open(string(f)) }

// part is the content of a file in an archive.
type part struct {
	file     io.ReaderAt
	off, len int64
}

// Open implements mkfs.Content.
func (p part) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(p.file, p.off, p.len)), nil
}

// readDir tells take of a directory on this machine. What belongs to the one who builds
// belongs to root in the image, so that a build needs no root.
func readDir(dir string, take take) error {
	type id struct{ dev, ino uint64 }
	seen := map[id]string{}
	return filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if rel == "." {
			rel = ""
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		key := id{st.Dev, st.Ino}
		if first, ok := seen[key]; ok && st.Mode&mkfs.Kind != mkfs.Directory {
			return take(rel, mkfs.Node{Mode: st.Mode}, first)
		}
		if st.Nlink > 1 {
			seen[key] = rel
		}
		n := mkfs.Node{Mode: st.Mode, UID: owner(st.Uid, os.Geteuid()), GID: owner(st.Gid, os.Getegid()), Time: time.Unix(st.Mtim.Unix())}
		switch n.Mode & mkfs.Kind {
		case mkfs.Regular:
			n.Size, n.Content = st.Size, fileContent(p)
		case mkfs.Symlink:
			if n.Target, err = os.Readlink(p); err != nil {
				return err
			}
		case mkfs.Block, mkfs.Character:
			n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
		}
		if n.Xattrs, err = xattrs(p); err != nil {
			return fmt.Errorf("%s: attributes: %w", rel, err)
		}
		return take(rel, n, "")
	})
}

func owner(id uint32, mine int) uint32 {
	if int(id) == mine {
		return 0
	}
	return id
}

// kept are the extended attributes that an image keeps: what a program needs to run.
func kept(name string) bool { return name == "security.capability" || strings.HasPrefix(name, "user.") }

func xattrs(p string) (map[string]string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, list)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found map[string]string
	for _, name := range strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if !kept(name) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			return nil, err
		}
		if found == nil {
			found = map[string]string{}
		}
		found[name] = string(value[:n])
	}
	return found, nil
}

// readTar tells take of an uncompressed archive.
func readTar(f *os.File, take take) error {
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("archive: %w (is it compressed?)", err)
		}
		// The reader does not read ahead: here begins the content.
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		n, link, err := entry(h, part{f, at, h.Size})
		if err != nil {
			return fmt.Errorf("archive: %.200q: %w", h.Name, err)
		}
		if err := take(name, n, link); err != nil {
			return err
		}
	}
}

// entry turns a header into a node or, for another name of a file, the name it had before.
func entry(h *tar.Header, content part) (n mkfs.Node, link string, err error) {
	n = mkfs.Node{Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid), Time: h.ModTime}
	switch h.Typeflag {
	case tar.TypeReg:
		if h.PAXRecords["GNU.sparse.major"] != "" || h.PAXRecords["GNU.sparse.size"] != "" {
			return n, "", errors.New("is sparse: make the archive without --sparse")
		}
		n.Mode, n.Size, n.Content = n.Mode|mkfs.Regular, h.Size, content
	case tar.TypeDir:
		n.Mode |= mkfs.Directory
	case tar.TypeSymlink:
		n.Mode, n.Target = n.Mode|mkfs.Symlink, h.Linkname
	case tar.TypeLink:
		return n, strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"), nil
	case tar.TypeChar:
		n.Mode, n.Major, n.Minor = n.Mode|mkfs.Character, uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeBlock:
		n.Mode, n.Major, n.Minor = n.Mode|mkfs.Block, uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeFifo:
		n.Mode |= mkfs.Fifo
	default:
		return n, "", fmt.Errorf("got type %q, want a file, directory, link or device", h.Typeflag)
	}
	for name, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(name, "SCHILY.xattr."); ok && kept(name) {
			if n.Xattrs == nil {
				n.Xattrs = map[string]string{}
			}
			n.Xattrs[name] = value
		}
	}
	return n, "", nil
}
