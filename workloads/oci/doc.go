// Package oci runs containers by the command of an OCI runtime: crun, runc or gVisor's
// runsc, whatever the host has.
//
// A Runtime is such a command and the directory of its state. It starts a bundle, whose
// first process becomes a child of the calling process (which has to be a subreaper),
// runs further commands in it, and takes it away, whatever is left of it. That nothing
// of a container is left is not believed of the runtime, which may have been killed half
// way: Hierarchy.Kill ends whatever process the container's control groups still hold.
//
// The package knows nothing of applications and imports nothing of twinkeel.
package oci
