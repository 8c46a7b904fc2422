// Package health says whether a system that was just booted is well.
//
// A Probe is one check: a unit that is active, a command that exits with 0, an HTTP
// or a TCP endpoint that answers. A Runner carries one out. A Judge turns rounds of
// results into a verdict: healthy when all required probes stayed good for the soak
// period, unhealthy when they did not become good by the deadline. A probe that
// failed on the old slot before the trial (the baseline) cannot condemn the new one,
// and neither can an advisory probe.
//
// A Judge is pure: it is told the time. A Runner touches the machine, but whatever a
// probe does — hang, fork without end, flood its output — it returns in bounded time
// and memory.
//
// The package imports no other package of this project. It never imports net or
// net/http: endpoints are reached through the unprivileged process, which is handed
// in as a Network.
package health
