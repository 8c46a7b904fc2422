// Command packaging builds the Debian packages of twinkeel: twinkeel (the operator's
// command), twinkeeld (the agent with its units) and twinkeel-server (the publisher's).
//
//	go run . -out ../.cache/deb              for amd64 and arm64
//
// It compiles the commands, which are static and so need no foreign tools for a foreign
// architecture, lets those of this machine write their manual pages and completions, and
// puts them with the units of examples/systemd, the only copies that there are, into
// packages. The same source gives the same bytes: all times are that of the newest entry
// of debian/changelog, which also has the version.
//
// The directory is a module of its own, so that the libraries that write packages are no
// dependency of anything that is shipped.
package main
