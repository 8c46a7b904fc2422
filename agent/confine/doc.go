// Package confine lets a process of twinkeel give up, for good, what it has no use for.
//
// It is the inner of two fences. The outer one is the service manager's sandbox (see
// examples/systemd), which a host may lack; this one is put up by the process itself,
// before it reads a byte from anybody, and needs neither a service manager nor root.
//
// A filter of system calls (seccomp) names what is refused: the rest of the kernel stays
// as open as the outer fence leaves it. Landlock names the directories that may be read;
// nothing can be written. What a kernel or a build does not offer is returned as a
// reason, to be logged: a host with an older kernel is updated all the same.
//
// It never imports anything of twinkeel.
package confine
