// Package runner runs units on this host: it implements the interfaces of package
// workloads by shims, one for each unit.
//
// It keeps two things. The ranges of ids that it gave to applications, for good, for
// their owners' names; they are never given to another. And which shim is whose: a small
// file below /run, which a reboot empties with everything that it tells of. Every change
// is written there before it is made, so that a Runner which is opened after an earlier
// one was killed knows what to end and what to start again (Open does).
package runner
