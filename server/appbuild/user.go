package appbuild

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/twinkeel/twinkeel/internal/erofs/mkfs"
)

// maxAccounts bounds the image's passwd and group files, in bytes.
const maxAccounts = 1 << 20

// user returns the numbers that "USER[:GROUP]" stands for, in names or numbers, by the
// image's own /etc/passwd and /etc/group. A user without a group has the one of its line in
// passwd, or 0; no user is root.
func user(tree *mkfs.Tree, text string) (uid, gid uint32, err error) {
	name, group, withGroup := strings.Cut(text, ":")
	if name == "" && !withGroup {
		return 0, 0, nil
	}
	number, isNumber := id(name)
	accounts, err := lines(tree, "etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	known := false
	for _, a := range accounts {
		if len(a) < 4 {
			continue
		}
		u, ok1 := id(a[2])
		g, ok2 := id(a[3])
		// The first line counts. A name that is all digits is a number.
		if ok1 && ok2 && (a[0] == name && !isNumber || isNumber && u == number) {
			uid, gid, known = u, g, true
			break
		}
	}
	if !known && !isNumber {
		return 0, 0, fmt.Errorf("user %.40q: the image's /etc/passwd does not know it", name)
	}
	if !known {
		uid = number
	}
	if !withGroup {
		return uid, gid, nil
	}
	if gid, isNumber = id(group); isNumber {
		return uid, gid, nil
	}
	groups, err := lines(tree, "etc/group")
	if err != nil {
		return 0, 0, err
	}
	for _, g := range groups {
		if len(g) >= 3 && g[0] == group {
			if n, ok := id(g[2]); ok {
				return uid, n, nil
			}
		}
	}
	return 0, 0, fmt.Errorf("group %.40q: the image's /etc/group does not know it", group)
}

func id(text string) (uint32, bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err == nil && n <= maxID
}

// lines returns the fields of each line of a file of the tree; none if it is not there.
func lines(tree *mkfs.Tree, name string) ([][]string, error) {
	_, n, err := follow(tree, name)
	if err != nil || n.Mode&mkfs.Kind != mkfs.Regular || n.Content == nil {
		return nil, nil
	}
	if n.Size > maxAccounts {
		return nil, fmt.Errorf("/%s: got %d bytes, want at most %d", name, n.Size, maxAccounts)
	}
	r, err := n.Content.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var list [][]string
	s := bufio.NewScanner(io.LimitReader(r, maxAccounts))
	s.Buffer(nil, maxAccounts)
	for s.Scan() {
		list = append(list, strings.Split(s.Text(), ":"))
	}
	return list, s.Err()
}
