// Package network gives applications private networks: a bridge of the host's, a
// namespace for each application with one address on the bridge, and packet filter rules
// that publish ports and keep everything else apart.
//
// An application reaches nobody: neither the host, nor other applications, nor the world,
// unless it may go out; and nobody reaches it but by a published port. All published
// ports are one table of rules, which Publish replaces in one transaction: a port leads
// to the old application or to the new one, never to both and never to none.
//
// The namespace and its link vanish with the last process in them.
package network
