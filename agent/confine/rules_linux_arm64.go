package confine

import "golang.org/x/sys/unix"

// arch is what the kernel calls this architecture.
const arch = unix.AUDIT_ARCH_AARCH64

// It has none of the calls that newer architectures do without.
var (
	oldNobodys = []rule{}
	oldFetcher = []rule{}
)
