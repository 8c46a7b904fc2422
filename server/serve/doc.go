// Package serve puts a repository on the network: a directory of static files, and how
// it is doing.
//
// Hosts need nothing but files, so any web server can stand in for this one. What this
// one adds: it serves only names that a repository has and nothing else that may lie in
// the directory; it answers the question "is there anything new?", which is nearly all
// that a fleet ever asks, from memory; it tells caches what never changes; and it says
// on /healthz and /metrics when the metadata is about to expire.
//
// Promises: GET and HEAD only, no listing, no hidden file, no way out of the directory
// through a link. Every wait has an end: a client that sends or takes bytes too slowly,
// or too many clients at once, cost a bounded number of connections.
//
// The package holds no key and reads nothing but the public repository. It imports
// neither the publisher nor any part of a host.
package serve
