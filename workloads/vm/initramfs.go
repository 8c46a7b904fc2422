package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
)

// Module is a kernel module: its file's name, with its ending, and what is in it.
type Module struct {
	Name    string
	Content []byte
}

// Initramfs packs what a Linux kernel starts with: init, static, as its first process,
// modules in the order in which they are loaded, and the order. The format is cpio's
// "newc", as linux/Documentation/driver-api/early-userspace/buffer-format.rst has it.
func Initramfs(init []byte, modules []Module, o Order) ([]byte, error) {
	order, err := json.Marshal(&o)
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	var a archive
	for _, dir := range []string{"app", "dev", "modules", "proc", "sys"} {
		a.add(dir, 0o040755, nil)
	}
	a.add("init", 0o100755, init)
	a.add(OrderFile, 0o100400, order)
	for i, m := range modules {
		a.add(fmt.Sprintf("modules/%03d-%s", i, path.Base(m.Name)), 0o100400, m.Content)
	}
	a.add("TRAILER!!!", 0, nil)
	return a.Bytes(), nil
}

// archive is a cpio archive.
type archive struct {
	bytes.Buffer
	inode int
}

func (a *archive) add(name string, mode uint32, content []byte) {
	a.inode++
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(content)
	a.pad()
}

func (a *archive) pad() { a.Write(make([]byte, -a.Len()&3)) }
