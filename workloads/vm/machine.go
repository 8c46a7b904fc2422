package vm

import (
	"fmt"
	"strconv"
	"strings"
)

// The least memory that a guest starts with, in bytes: a Linux kernel with its initramfs,
// or a kernel of the application's own.
const (
	LeastLinux = 96 << 20
	LeastOwn   = 4 << 20
)

// Overhead is what QEMU itself may take beside the memory of its guest, in bytes: most of
// it is translated code, where the processor is emulated.
const Overhead = 192 << 20

// Descriptors that QEMU is started with.
const (
	lineFD    = 3 // the guest's port
	monitorFD = 4 // QEMU's own, for the button that turns a machine off
)

// Names of a Machine's files, in the directory that QEMU sees.
const (
	Dir       = "/vm"
	KernelAt  = Dir + "/kernel"
	InitrdAt  = Dir + "/initrd"
	ImageAt   = Dir + "/image"
	volumeAt  = Dir + "/volume"
	linuxLine = "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init"
)

// VolumeAt is the disk of the nth volume.
func VolumeAt(n int) string { return volumeAt + strconv.Itoa(n) }

// Forward leads from a port where QEMU runs to the same one of the guest.
type Forward struct {
	Proto string // tcp or udp
	Port  uint16
}

// Machine is what QEMU is told.
type Machine struct {
	Name    string
	Memory  int64 // bytes
	CPUs    int
	KVM     bool
	Volumes int
	Network bool
	Forward []Forward
	// Own says that the kernel is the application's own: it gets Line as its command line
	// and no initramfs, and is ended by the button.
	Own  bool
	Line string
}

// Args are QEMU's arguments. The guest has a network by QEMU itself, which does for it
// what any program does with sockets: it needs no rights, and the guest cannot take
// another's address.
func (m Machine) Args() []string {
	accel, cpu := "tcg,tb-size=64", "max"
	if m.KVM {
		accel, cpu = "kvm", "host"
	}
	args := []string{
		"-name", m.Name, "-machine", "pc,usb=off,dump-guest-core=off", "-accel", accel, "-cpu", cpu,
		"-m", strconv.FormatInt(m.Memory>>20, 10) + "M", "-smp", strconv.Itoa(m.CPUs),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-device", "virtio-rng-pci",
		"-kernel", KernelAt,
	}
	if m.Own {
		args = append(args, "-append", m.Line, "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
			"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", monitorFD), "-mon", "chardev=monitor,mode=control")
	} else {
		args = append(args, "-initrd", InitrdAt, "-append", linuxLine, "-device", "virtio-serial-pci",
			"-chardev", fmt.Sprintf("socket,id=line,fd=%d", lineFD), "-device", "virtserialport,chardev=line,name="+PortName)
	}
	args = append(args, disk("image", ImageAt, true)...)
	for i := range m.Volumes {
		args = append(args, disk("volume"+strconv.Itoa(i), VolumeAt(i), false)...)
	}
	if m.Network {
		// No other addresses than those of the one network, and no names of the host's.
		forward := []string{"user,id=net,ipv6=off"}
		for _, f := range m.Forward {
			forward = append(forward, fmt.Sprintf("hostfwd=%s::%d-:%d", f.Proto, f.Port, f.Port))
		}
		args = append(args, "-netdev", strings.Join(forward, ","), "-device", "virtio-net-pci,netdev=net,romfile=")
	}
	return args
}

func disk(id, file string, readOnly bool) []string {
	how := "off"
	if readOnly {
		how = "on"
	}
	return []string{
		"-blockdev", "driver=file,node-name=" + id + "-file,filename=" + file + ",read-only=" + how,
		"-blockdev", "driver=raw,node-name=" + id + ",file=" + id + "-file,read-only=" + how,
		"-device", "virtio-blk-pci,drive=" + id,
	}
}
