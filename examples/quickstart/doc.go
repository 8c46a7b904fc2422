// Command quickstart runs the whole way of a release in under a minute, without root:
// a publisher, a server, and a host whose slots are plain files, with the real commands.
//
//	make quickstart
//
// The images are made up: a first block that says what the image is and whether it is
// healthy, and noise that differs a little from release to release. The health check
// reads that block. Everything else is as in examples/demo, which updates a real system.
package main
