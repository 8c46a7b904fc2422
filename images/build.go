package images

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/erofs/mkfs"
	"github.com/twinkeel/twinkeel/release"
)

// The kinds of boot images.
const (
	GRUB   = "grub"
	SDBoot = "systemd-boot"
)

// The files that Build makes.
const (
	RootFile = "root.erofs"
	BootFile = "boot.img"
)

// maxFiles bounds a source.
const maxFiles = 4 << 20

// Options say what to build.
type Options struct {
	Source string    // directory or tar archive
	Output string    // directory; made if it is not there
	Time   time.Time // SOURCE_DATE_EPOCH: no file is newer
	Loader string    // GRUB or SDBoot
	// Initrd is used instead of the first stage in the source, or else of the one in
	// /boot; "": those.
	Initrd  string
	Modules []string // that the first stage loads, beside the usual ones
	Cmdline string   // of the kernel, for SDBoot; GRUB takes it from its script
	Tidy    bool     // leave out what Rules refuse
}

// Result says what was built.
type Result struct {
	Kernel     string           `json:"kernel"`
	FirstStage bool             `json:"firstStage"` // the initrd is twinkeel-init with modules
	Files      int              `json:"files"`      // names in the root image
	Clamped    int              `json:"clamped"`
	LeftOut    int              `json:"leftOut"`
	Images     map[string]Image `json:"images"`
	Notes      []string         `json:"notes,omitempty"`
}

// Image is one of a Result.
type Image struct {
	Path   string         `json:"path"`
	Size   int64          `json:"size"`
	SHA256 release.Digest `json:"sha256"`
}

// Refusal says which files keep an image from being the same each time it is built.
type Refusal struct {
	Faults []Fault
}

// Fault is a rule that is broken.
type Fault struct {
	Rule  Rule
	Files int
	First string // one of them
}

// Error names every rule with a file.
func (r *Refusal) Error() string {
	var b strings.Builder
	b.WriteString("source: two builds would differ, or two hosts would not")
	for _, f := range r.Faults {
		more := ""
		if f.Files > 1 {
			more = fmt.Sprintf(" and %d more of %s", f.Files-1, f.Rule.Pattern)
		}
		fmt.Fprintf(&b, "\n  /%s%s: %s", f.First, more, f.Rule.Why)
	}
	return b.String()
}

// build is an image that is being built.
type build struct {
	o      Options
	tree   *mkfs.Tree
	rules  []Rule
	faults map[string]*Fault
	r      Result
}

// Build makes RootFile and BootFile in o.Output.
func Build(ctx context.Context, o Options) (*Result, error) {
	if o.Loader != GRUB && o.Loader != SDBoot {
		return nil, fmt.Errorf("boot loader: got %.40q, want %s or %s", o.Loader, GRUB, SDBoot)
	}
	if o.Time.Unix() < 0 || o.Time.IsZero() {
		return nil, errors.New("time: is missing: without one each build has its own")
	}
	tree, err := mkfs.NewTree(mkfs.Node{Mode: mkfs.Directory | 0o755})
	if err != nil {
		return nil, err
	}
	b := &build{o: o, tree: tree, rules: Rules(), faults: map[string]*Fault{}, r: Result{Images: map[string]Image{}}}
	source, err := os.Open(o.Source)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if info.IsDir() {
		err = readDir(o.Source, b.take)
	} else {
		err = readTar(source, b.take)
	}
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", o.Source, err)
	}
	if err := b.refusal(); err != nil {
		return nil, err
	}
	k, err := b.kernel(ctx)
	if err != nil {
		return nil, fmt.Errorf("boot image: %w", err)
	}
	if err := os.MkdirAll(o.Output, 0o755); err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	if err := b.write(BootFile, "boot", func(w io.Writer) error { return b.boot(ctx, w, k) }); err != nil {
		return nil, fmt.Errorf("boot image: %w", err)
	}
	b.r.Files = tree.Len()
	err = b.write(RootFile, "root", func(w io.Writer) error {
		_, err := mkfs.Write(ctx, w, tree, mkfs.Options{Time: o.Time, Label: "root"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("root image: %w", err)
	}
	return &b.r, nil
}

// take puts a node into the tree, if it may be there.
func (b *build) take(name string, n mkfs.Node, linkTo string) error {
	if linkTo != "" {
		if _, ok := b.tree.Lookup(linkTo); !ok {
			return b.refuse(name, mkfs.Node{Mode: mkfs.Regular, Size: 1}) // what it leads to was left out
		}
		if refused, err := b.refused(name, n); refused || err != nil {
			return err
		}
		return b.tree.Link(name, linkTo)
	}
	if b.tree.Len() >= maxFiles {
		return fmt.Errorf("got more than %d files", maxFiles)
	}
	if n.Mode&mkfs.Kind == mkfs.Socket {
		return fmt.Errorf("/%s: is a socket: it means nothing without the process that made it", name)
	}
	if n.Mode&mkfs.Kind == mkfs.Character && n.Major == 0 && n.Minor == 0 {
		return fmt.Errorf("/%s: is what an overlay marks a removed file with: take the merged directory as the source", name)
	}
	if refused, err := b.refused(name, n); refused || err != nil {
		return err
	}
	switch {
	case n.Time.After(b.o.Time):
		b.r.Clamped++
		n.Time = time.Time{}
	case n.Time.Unix() < 0 || n.Time.Equal(b.o.Time):
		n.Time = time.Time{} // that of the image, in a smaller inode
	default:
		n.Time = n.Time.Truncate(time.Second) // archives keep no more
	}
	if err := b.parents(path.Dir(name)); err != nil {
		return err
	}
	return b.tree.Add(name, n)
}

// parents adds directories that an archive does not hold.
func (b *build) parents(dir string) error {
	if dir == "." {
		return nil
	}
	if _, ok := b.tree.Lookup(dir); ok {
		return nil
	}
	if err := b.parents(path.Dir(dir)); err != nil {
		return err
	}
	return b.tree.Add(dir, mkfs.Node{Mode: mkfs.Directory | 0o755})
}

// refused reports whether the node stays out of the image.
func (b *build) refused(name string, n mkfs.Node) (bool, error) {
	for _, r := range b.rules {
		if n.IsDir() || !r.covers(name) || r.Empty && (n.Size == 0 || n.Mode&mkfs.Kind == mkfs.Symlink) {
			continue
		}
		if b.faults[r.Pattern] == nil {
			b.faults[r.Pattern] = &Fault{Rule: r, First: name}
		}
		b.faults[r.Pattern].Files++
		if b.o.Tidy && r.Pattern == "etc/machine-id" {
			// Empty it means that the host gets one; missing, that it is a first boot.
			return true, b.tree.Add(name, mkfs.Node{Mode: mkfs.Regular | 0o444})
		}
		return true, nil
	}
	return false, nil
}

// refuse is for another name of what was refused.
func (b *build) refuse(name string, n mkfs.Node) error {
	refused, err := b.refused(name, n)
	if err == nil && !refused {
		err = fmt.Errorf("/%s: is another name of a file that is not in the image", name)
	}
	return err
}

// refusal is the error that the source earned, in the order of the rules.
func (b *build) refusal() error {
	var list []Fault
	for _, r := range b.rules {
		if f := b.faults[r.Pattern]; f != nil {
			list = append(list, *f)
			b.r.LeftOut += f.Files
		}
	}
	if len(list) == 0 || b.o.Tidy {
		return nil
	}
	return &Refusal{list}
}

// write makes one of the files, aside first.
func (b *build) write(name, image string, fill func(io.Writer) error) error {
	at := filepath.Join(b.o.Output, name)
	f, err := os.Create(at + ".partial")
	if err != nil {
		return err
	}
	defer f.Close()
	sum, buffered := sha256.New(), bufio.NewWriterSize(f, 1<<20)
	if err := fill(io.MultiWriter(buffered, sum)); err != nil {
		return errors.Join(err, os.Remove(at+".partial"))
	}
	if err := errors.Join(buffered.Flush(), f.Sync()); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	b.r.Images[image] = Image{at, info.Size(), release.Digest(sum.Sum(nil))}
	return os.Rename(at+".partial", at)
}
