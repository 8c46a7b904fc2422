package spec

import (
	"slices"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// refused are system calls that moby's profile allows and that no program of Debian's
// that was tried has need of. Each had holes, or tells where the kernel's things lie.
var refused = []string{
	"fanotify_mark", "kcmp", "listmount", "lookup_dcookie", "memfd_secret", "migrate_pages", "modify_ldt", "move_pages", "name_to_handle_at",
	"open_by_handle_at", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace", "remap_file_pages",
	"statmount", "sysfs", "syslog", "uselib", "ustat", "vhangup", "vmsplice",
	// Every call that makes a socket is allowed below, by its arguments. The old 32-bit
	// call hides them.
	"socket", "socketcall", "socketpair",
	// So is every request to a device but two.
	"ioctl",
}

// typing are the requests that make a terminal believe that somebody typed: TIOCSTI, and
// TIOCLINUX, by which a console pastes. The terminal may be that of whoever runs a command
// in the application.
var typing = []uint32{tiocsti, tioclinux}

const tiocsti, tioclinux = 0x5412, 0x541c // asm-generic/ioctls.h

// Address families, types and protocols of sockets, as the kernel numbers them on every
// architecture that Debian has.
const (
	familyUnix, familyInet, familyInet6, familyNetlink = 1, 2, 10, 16
	typeStream, typeDatagram, typeMask                 = 1, 2, 0xf
	netlinkRoute                                       = 0
)

// What the host's kernel asks a capability or a group for, and gVisor's gives to everybody:
// device nodes, and sockets of ICMP.
const (
	modeType, modeFIFO, modeFile, modeSocket = 0xf000, 0x1000, 0x8000, 0xc000
	protocolAny, protocolTCP, protocolUDP    = 0, 6, 17
)

// filter is moby's profile for these capabilities, less what is refused.
func filter(level string, caps []string) (*specs.LinuxSeccomp, error) {
	f, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
	if err != nil {
		return nil, err
	}
	// The first architecture is the machine's. The others are older ones that it can
	// also run, with other numbers and argument lists.
	f.Architectures = f.Architectures[:1]
	var kept []specs.LinuxSyscall
	refused := refused
	if level == "sandbox" {
		refused = append(slices.Clone(refused), "mknod", "mknodat")
	}
	for _, call := range f.Syscalls {
		call.Names = slices.DeleteFunc(slices.Clone(call.Names), func(n string) bool { return slices.Contains(refused, n) })
		if len(call.Names) > 0 {
			kept = append(kept, call)
		}
	}
	family := func(n uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: 0, Value: n, Op: specs.OpEqualTo}
	}
	kind := func(n uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: 1, Value: typeMask, ValueTwo: n, Op: specs.OpMaskedEqual}
	}
	allow := func(name string, args ...specs.LinuxSeccompArg) {
		kept = append(kept, specs.LinuxSyscall{Names: []string{name}, Action: specs.ActAllow, Args: args})
	}
	allow("socketpair", family(familyUnix))
	allow("socket", family(familyUnix))
	for _, f := range []uint64{familyInet, familyInet6} {
		for _, k := range []uint64{typeStream, typeDatagram} {
			if level != "sandbox" {
				allow("socket", family(f), kind(k))
				continue
			}
			for _, p := range []uint64{protocolAny, protocolTCP, protocolUDP} {
				allow("socket", family(f), kind(k), specs.LinuxSeccompArg{Index: 2, Value: p, Op: specs.OpEqualTo})
			}
		}
	}
	for _, arg := range others(1, typing) {
		allow("ioctl", arg)
	}
	if level == "sandbox" {
		for _, mode := range []uint64{0, modeFIFO, modeFile, modeSocket} {
			at := func(index uint) specs.LinuxSeccompArg {
				return specs.LinuxSeccompArg{Index: index, Value: modeType, ValueTwo: mode, Op: specs.OpMaskedEqual}
			}
			allow("mknod", at(1))
			allow("mknodat", at(2))
		}
	}
	allow("socket", family(familyNetlink), specs.LinuxSeccompArg{Index: 2, Value: netlinkRoute, Op: specs.OpEqualTo})
	f.Syscalls = kept
	return f, nil
}

// others are conditions of which each value of an argument meets at least one, but those
// of out, which meet none. The kernel takes the lower half of the argument, so that its upper
// half must not matter: no operator but that with a mask leaves it out. There is none for
// being different; but what differs does so in a bit.
func others(index uint, out []uint32) (list []specs.LinuxSeccompArg) {
	same, common := ^uint32(0), out[0]
	for _, n := range out {
		same &^= n ^ common
	}
	add := func(mask, value uint32) {
		list = append(list, specs.LinuxSeccompArg{Index: index, Value: uint64(mask), ValueTwo: uint64(value), Op: specs.OpMaskedEqual})
	}
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if same&bit != 0 {
			add(bit, bit&^common)
		}
	}
	// In the bits by which those of out differ among themselves: every other pattern.
	for p := ^same; ; p = (p - 1) & ^same {
		if !slices.ContainsFunc(out, func(n uint32) bool { return n&^same == p }) {
			add(^same, p)
		}
		if p == 0 {
			return list
		}
	}
}
