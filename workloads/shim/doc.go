// Package shim is the process that stands between the host and one application: it
// mounts, starts, watches and restarts it, keeps its output and its listening sockets,
// and ends it.
//
// A shim is a small program of its own, cmd/twinkeel-shim. It has a session, a control group and a
// mount namespace of its own, so that neither the end nor the update of the agent touches
// the application. It is told what to do once, by the Order in its directory, and
// afterwards over a socket there (Client). A lock on a file of the directory says that it
// lives: whoever holds the lock is the only one to start the application, and first ends
// whatever an earlier shim left.
//
// It starts its application at once or, where clients wait for that, at a word of the
// agent's when all else is done (Prepare). Without the word it ends.
//
// Whatever is killed at whatever moment, the rest follows. Without its shim an
// application runs on until the next shim of its directory ends it and starts it again;
// its output waits in a named pipe meanwhile. Mounts and the application's network end
// with the last process that uses them, for they belong to namespaces and to no table of
// the host's.
//
// It imports the packages beside it (spec, mount, oci, network, pace), and not the agent.
package shim
