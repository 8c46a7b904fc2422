package appbuild

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/internal/erofs/mkfs"
)

// maxLinks is how many symbolic links Linux follows on the way to a name.
const maxLinks = 40

var errAbsent = errors.New("it is not in the image")

func parentOf(name string) string {
	if dir := path.Dir(name); dir != "." {
		return dir
	}
	return ""
}

// resolve returns the path of the directory that name leads to, with links followed as
// a process would whose root is the tree.
func resolve(tree *mkfs.Tree, name string) (string, error) {
	at, n, err := follow(tree, name)
	if err == nil && !n.IsDir() {
		err = errors.New("on the way to it is no directory")
	}
	return at, err
}

// follow returns the path and the node that name leads to.
func follow(tree *mkfs.Tree, name string) (string, mkfs.Node, error) {
	at, links := "", 0
	rest := strings.Split(name, "/")
	n, _ := tree.Lookup("")
	for len(rest) > 0 {
		e := rest[0]
		rest = rest[1:]
		switch e {
		case "", ".":
			continue
		case "..":
			at = parentOf(at)
			n, _ = tree.Lookup(at)
			continue
		}
		if !n.IsDir() {
			return "", n, fmt.Errorf("%q on the way to it is no directory", at)
		}
		next, ok := tree.Lookup(path.Join(at, e))
		if !ok {
			return "", n, errAbsent
		}
		if next.Mode&mkfs.Kind != mkfs.Symlink {
			at, n = path.Join(at, e), next
			continue
		}
		if links++; links > maxLinks {
			return "", n, fmt.Errorf("%q: links lead in a circle", path.Join(at, e))
		}
		if strings.HasPrefix(next.Target, "/") {
			at = ""
			n, _ = tree.Lookup("")
		}
		rest = slices.Concat(strings.Split(next.Target, "/"), rest)
	}
	return at, n, nil
}

// notes gathers what was left out, a line for each reason.
type notes struct {
	order []string
	about map[string][]string
}

// add notes that a reason holds for a file.
func (n *notes) add(reason, file string) {
	if n.about == nil {
		n.about = map[string][]string{}
	}
	if n.about[reason] == nil {
		n.order = append(n.order, reason)
	}
	n.about[reason] = append(n.about[reason], file)
}

func (n *notes) list() []string {
	var list []string
	for _, reason := range n.order {
		files := n.about[reason]
		text := strings.Join(files[:min(3, len(files))], ", ")
		if more := len(files) - 3; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		list = append(list, reason+": "+text)
	}
	return list
}
