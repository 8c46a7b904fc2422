// Package writer puts the real agent together.
//
// Open turns a configuration into an agent.Agent over this machine: its state
// directory, its slots and boot loader, its clock and its reboot command, and the
// process without privileges that stands between it and the network, which is started
// when it is first needed. What is missing does not keep Open from returning: a host
// whose data partition is gone, or whose boot record is unreadable, still has an agent
// that says so, with a reason code, and that can still go back where that is possible.
//
// The process that holds a Writer is the privileged one. So this package imports
// neither net/http nor crypto/tls nor a decompressor.
package writer
