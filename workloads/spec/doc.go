// Package spec turns the manifest of an application and what the host grants it into the
// configuration that an OCI runtime starts it by.
//
// Everything is refused that is not named here: the application runs as an ordinary user
// of a user namespace of its own, whose 65,536 ids belong to nobody else on the host; it
// has no capability and gains none; its root is the image, read-only; its network is
// empty; the files of /proc that tell of the host are covered; system calls are filtered
// by moby's profile, less what programs have no need of, and sockets by their family;
// memory, processes, processor and open files are bounded, always. A permission adds one
// thing to this. One that the manifest asks for and the host did not grant is an error,
// and so is one that this package does not know: the result is never weaker or stronger
// than what was agreed.
//
// Config is a function of its input alone, down to the bytes. The formats are those of
// the Open Container Initiative's runtime specification 1.3.0; its Go types do not leave
// this package. It imports package release and touches no file.
package spec
