// Package fetcher is the writer's end of the wire: agent.Net over a socket to a process
// without privileges.
//
// Spawn starts that process from the program's own binary; Dial uses one that a
// service manager runs behind a listening socket. Either way a Client sends one
// request at a time over a connection and takes back bytes, a decoded plan, or one
// word for what went wrong. The process itself is package child.
//
// The Client treats the process as an enemy that has already been taken over by the
// server. Every frame is bounded before it is read, nothing arrives but bytes, no
// answer is longer than its limit, silence and endless drip end in a kill, and the
// next call starts afresh. What a bad process can do is withhold or delay. That the
// bytes are the right ones is not known here: whoever asked checks signatures and
// digests.
//
// The package imports neither net/http nor crypto/tls nor a decompressor: that is why
// there is a second process.
package fetcher
