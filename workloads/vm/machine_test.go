package vm_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/twinkeel/twinkeel/workloads/vm"
)

func TestAMachineHasWhatItIsGivenAndNothingElse(t *testing.T) {
	m := vm.Machine{Name: "web", Memory: 128 << 20, CPUs: 2, Volumes: 1}
	line := strings.Join(m.Args(), " ")
	for _, want := range []string{
		"-accel tcg", "-m 128M", "-smp 2", "-nodefaults", "-no-user-config", "-no-reboot", "-display none",
		"-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"filename=/vm/image,read-only=on", "filename=/vm/volume0,read-only=off", "rdinit=/init",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("got %s, want %s in it", line, want)
		}
	}
	for _, never := range []string{"netdev", "virtio-net", "isa-debug-exit", "monitor", "volume1", "kvm"} {
		if strings.Contains(line, never) {
			t.Errorf("got %s, want no %s", line, never)
		}
	}
	m.Network, m.Forward, m.KVM = true, []vm.Forward{{"tcp", 8080}, {"udp", 53}}, true
	line = strings.Join(m.Args(), " ")
	for _, want := range []string{"-accel kvm", "user,id=net,ipv6=off,hostfwd=tcp::8080-:8080,hostfwd=udp::53-:53"} {
		if !strings.Contains(line, want) {
			t.Errorf("got %s, want %s in it", line, want)
		}
	}
	m.Own, m.Line = true, "a b"
	if line = strings.Join(m.Args(), " "); !strings.Contains(line, "-append a b") || strings.Contains(line, "-initrd") {
		t.Errorf("own kernel: got %s, want its command line and no initramfs", line)
	}
}

func TestTheInitramfsHasInitModulesInOrderAndTheOrder(t *testing.T) {
	b, err := vm.Initramfs([]byte("program"), []vm.Module{{"virtio.ko", []byte("m1")}, {"virtio_blk.ko.xz", []byte("m2")}}, vm.Order{Argv: []string{"/bin/x"}})
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, want := range []string{"init\x00", "program", vm.OrderFile + "\x00", `"argv":["/bin/x"]`, "modules/000-virtio.ko\x00", "m1", "modules/001-virtio_blk.ko.xz\x00", "m2", "TRAILER!!!\x00"} {
		i := bytes.Index(b[at:], []byte(want))
		if i < 0 {
			t.Fatalf("got no %q behind byte %d", want, at)
		}
		at += i
	}
	if len(b)%4 != 0 || !bytes.HasPrefix(b, []byte("070701")) {
		t.Errorf("got %d bytes that begin with %.6q", len(b), b)
	}
}

func TestModulesComeBehindThoseThatTheyNeed(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	dir := fstest.MapFS{
		"modules.dep":          file("kernel/virtio-pci.ko: kernel/virtio.ko kernel/ring.ko\nkernel/virtio.ko: kernel/ring.ko\nkernel/ring.ko:\nkernel/virtio_blk.ko: kernel/virtio.ko kernel/ring.ko\n"),
		"modules.builtin":      file("kernel/fs/ext4/ext4.ko\n"),
		"kernel/virtio-pci.ko": file("p"),
		"kernel/virtio.ko":     file("v"),
		"kernel/ring.ko":       file("r"),
		"kernel/virtio_blk.ko": file("b"),
		"kernel/outside.ko":    file("o"),
	}
	list, err := vm.Modules(dir, []string{"virtio_pci", "ext4", "virtio_blk"})
	var names []string
	for _, m := range list {
		names = append(names, m.Name)
	}
	if got := strings.Join(names, " "); err != nil || got != "ring.ko virtio.ko virtio-pci.ko virtio_blk.ko" {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := vm.Modules(dir, []string{"erofs"}); err == nil || !strings.Contains(err.Error(), "erofs") {
		t.Errorf("one that is not there: got %v, want an error that names it", err)
	}
	dir["modules.dep"] = file("../../etc/shadow:\n")
	if _, err := vm.Modules(dir, []string{"shadow"}); err == nil {
		t.Error("a name that leads out of the directory was read")
	}
}
