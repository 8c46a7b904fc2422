// Command twinkeel-shim stands between the host and one application: it mounts, starts,
// watches and restarts it, keeps its output and its sockets, and ends it (package
// workloads/shim).
//
// The agent starts one for each application, with its directory as the only argument. It
// is a program of its own because a host has as many of them as applications: the agent's
// program takes three times as long to begin, and the memory for it.
package main
