package confine

import "golang.org/x/sys/unix"

// A rule refuses one system call, always or by one argument.
type rule struct {
	call  uint32
	errno unix.Errno
	// test is nil for always. Arguments are judged by their lower 32 bits: those looked
	// at here are ints or flags that the kernel itself cuts to that.
	test *test
}

type test struct {
	arg  uint32 // 0 to 5
	mask uint32
	kind kind
	// values are compared with the masked argument.
	values []uint32
}

type kind int

const (
	anyOf  kind = iota // refused if a bit of mask is set
	noneOf             // refused if no bit of mask is set
	notIn              // refused if the masked argument is none of values
)

func always(calls ...uint32) []rule {
	var rules []rule
	for _, c := range calls {
		rules = append(rules, rule{call: c, errno: unix.EPERM})
	}
	return rules
}

// absent makes calls fail as on a kernel that lacks them, so that a library takes the
// older way, whose arguments a filter can see.
func absent(calls ...uint32) []rule {
	rules := always(calls...)
	for i := range rules {
		rules[i].errno = unix.ENOSYS
	}
	return rules
}

func ifAny(call, arg, mask uint32) rule {
	return rule{call, unix.EPERM, &test{arg: arg, mask: mask, kind: anyOf}}
}

func ifNone(call, arg, mask uint32) rule {
	return rule{call, unix.EPERM, &test{arg: arg, mask: mask, kind: noneOf}}
}

func unless(call, arg, mask uint32, values ...uint32) rule {
	return rule{call, unix.EPERM, &test{arg: arg, mask: mask, kind: notIn, values: values}}
}

// Offsets in struct seccomp_data.
const (
	offsetCall = 0
	offsetArch = 4
	offsetArgs = 16 // of eight bytes each, the lower half first on the architectures we know
)

// program translates rules for the kernel. Calls by another architecture's numbers are
// refused, as the rules would not fit them.
func program(arch uint32, rules []rule) []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		and    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atMin  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		hasBit = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		end    = unix.BPF_RET | unix.BPF_K
		refuse = unix.SECCOMP_RET_ERRNO
		x32    = 0x40000000 // the bit of amd64's second set of numbers; no other call is as high
	)
	p := []unix.SockFilter{
		{Code: load, K: offsetArch},
		{Code: equal, K: arch, Jt: 1},
		{Code: end, K: refuse | uint32(unix.EPERM)},
		{Code: load, K: offsetCall},
		{Code: atMin, K: x32, Jf: 1},
		{Code: end, K: refuse | uint32(unix.EPERM)},
	}
	for _, r := range rules {
		no := unix.SockFilter{Code: end, K: refuse | uint32(r.errno)}
		var body []unix.SockFilter
		if r.test == nil {
			body = []unix.SockFilter{no}
		} else {
			body = append(body, unix.SockFilter{Code: load, K: offsetArgs + 8*r.test.arg})
			switch r.test.kind {
			case anyOf:
				body = append(body, unix.SockFilter{Code: hasBit, K: r.test.mask, Jf: 1})
			case noneOf:
				body = append(body, unix.SockFilter{Code: hasBit, K: r.test.mask, Jt: 1})
			case notIn:
				body = append(body, unix.SockFilter{Code: and, K: r.test.mask})
				for i, v := range r.test.values {
					body = append(body, unix.SockFilter{Code: equal, K: v, Jt: uint8(len(r.test.values) - i)})
				}
			}
			body = append(body, no, unix.SockFilter{Code: load, K: offsetCall})
		}
		p = append(p, unix.SockFilter{Code: equal, K: r.call, Jf: uint8(len(body))})
		p = append(p, body...)
	}
	return append(p, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW})
}
