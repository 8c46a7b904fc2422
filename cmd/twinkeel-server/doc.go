// Command twinkeel-server is the publisher's command: it makes and keeps a site, which is
// a directory with keys and a repository, publishes releases into it, and serves it.
//
// Everything it decides is in package server; here are words, flags, passphrases and exit
// codes. All commands run without questions when a passphrase file is given, and exclude
// each other on one site. The package is never imported.
package main
