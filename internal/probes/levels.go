package probes

// Expectation is what may be open in one place where probes are tried.
type Expectation struct {
	Place string // for people
	Most  int    // probes open at most
	// Known are the names that may be open.
	Known map[string]Exception
}

// Exception says why an open probe is no way out, and what is checked in its place; "":
// nothing has to be.
type Exception struct {
	Why, Instead string
}

// exceptions gives the same reason to several probes.
func (e Expectation) exceptions(x Exception, names ...string) Expectation {
	for _, n := range names {
		e.Known[n] = x
	}
	return e
}

// common are open wherever anything runs.
func common(place string, most int) Expectation {
	e := Expectation{Place: place, Most: most, Known: map[string]Exception{}}
	return e.exceptions(Exception{Why: "programs talk to themselves over the loopback of their own, empty network"}, "socket-inet").
		exceptions(Exception{Why: "a process may offer itself to be killed first"}, "oom-score")
}

// Container is what is expected of level container, without any permission.
func Container() Expectation { return common("container", 2) }

// Sandbox is what is expected of level sandbox, whose kernel is a program, gVisor's, that
// answers in the place of the host's.
func Sandbox() Expectation {
	return common("sandbox", 7).
		exceptions(Exception{
			Why:     "gVisor's kernel tells of its own users, whatever they are on the host",
			Instead: standing,
		}, "host-root-id").
		exceptions(Exception{
			Why:     "gVisor's kernel has devices of its own by these names, which lead to nothing of the host's",
			Instead: standing + "; the host is as it was",
		}, "dev-fuse", "dev-tun").
		exceptions(Exception{
			Why:     "gVisor's kernel keeps such numbers, and the host's never hears of them",
			Instead: standing,
		}, "setpriority", "oom-score-lower")
}

// standing is a check of what runs on the host.
const standing = "each process of the application's on the host has a filter of system calls, no new privileges, namespaces of its own, and ids of the application's range or nobody's"

// Emulator is what is expected where level vm has its emulator: the guest's devices are
// the way there, and the host's kernel is below it.
func Emulator() Expectation {
	return common("vm: in the emulator's place", 2)
}

// Guest is what is expected in the guest of level vm. What may be open is answered by the
// guest's own kernel, in which nobody else lives.
func Guest() Expectation {
	e := common("vm: in the guest", 0).exceptions(Exception{
		Why:     "a call that the guest's own kernel answers",
		Instead: "the same probe is closed in the emulator's place, and the host is as it was",
	}, "bpf", "perf-event-open", "io-uring-setup", "io-uring-enter", "io-uring-register", "userfaultfd", "add-key", "request-key", "keyctl",
		"name-to-handle-at", "ptrace", "process-vm-readv", "process-vm-writev", "process-madvise", "kcmp", "pidfd-getfd", "memfd-secret",
		"vmsplice", "modify-ldt", "remap-file-pages", "move-pages", "migrate-pages", "mbind", "set-mempolicy", "fanotify-init", "fanotify-mark", "terminal-typed", "quotactl",
		"quotactl-fd", "uselib", "ustat", "sysfs", "fsconfig", "unshare-user", "clone-user", "setns", "personality", "umount", "mount-setattr", "clock-settime", "filter").
		exceptions(Exception{
			Why:     "a family of sockets of the guest's own kernel, in a guest without a network",
			Instead: "the same probe is closed in the emulator's place; the probes interface and metadata-address are closed in the guest",
		}, "socket-icmp", "socket-alg", "socket-vsock", "socket-key", "socket-can", "socket-tipc", "socket-bluetooth", "socket-rds", "socket-uevent",
			"socket-netfilter", "socket-audit", "socket-xfrm", "socket-generic-netlink").
		exceptions(Exception{
			Why:     "what the guest's own kernel tells of itself",
			Instead: "the same probe is closed in the emulator's place",
		}, "proc-kallsyms", "proc-config", "proc-keys", "proc-key-users", "proc-sched-debug", "proc-interrupts", "proc-iomem", "proc-modules",
			"proc-scsi", "proc-acpi", "proc-bus", "proc-of-others", "host-root-id", "masked-by-link")
	e.Most = len(e.Known)
	return e
}
