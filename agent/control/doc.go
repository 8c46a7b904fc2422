// Package control is the door between the operator's command and the daemon.
//
// The daemon listens on a unix stream socket (Listen, Serve); a Client is an
// agent.Operator on the other side of it, so that a command does not care whether it
// talks to a daemon or to an agent in its own process. One connection carries one
// request: a line of JSON, answered by lines of events and then one line with the
// result or with an error, whose reason code survives the way. An offline bundle
// travels as a file descriptor: the daemon never opens a path that it was told.
//
// The socket belongs to root and the group "twinkeel", mode 0660; who is at the other
// end is known from the kernel by number (SO_PEERCRED), never from text. Whatever a
// client does — stays silent, floods, hangs up, never reads — costs at most one of 64
// places for a few seconds, and never holds up the agent.
//
// The package imports agent for the operator's API. It never imports a network beyond
// the unix socket.
package control
