package vm

import (
	"encoding/json"
	"fmt"
	"path"

	"github.com/twinkeel/twinkeel/internal/cpio"
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
	var a cpio.Archive
	for _, dir := range []string{"app", "dev", "modules", "proc", "sys"} {
		a.Add(dir, cpio.Directory|0o755, nil)
	}
	a.Add("init", cpio.Regular|0o755, init)
	a.Add(OrderFile, cpio.Regular|0o400, order)
	for i, m := range modules {
		a.Add(fmt.Sprintf("modules/%03d-%s", i, path.Base(m.Name)), cpio.Regular|0o400, m.Content)
	}
	return a.Bytes(), nil
}
