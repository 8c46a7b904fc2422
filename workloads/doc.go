// Package workloads holds the nouns between the agent, which decides what applications
// run, and those who run them.
//
// A Unit is one application as it is to run: its signed manifest, its verified image, the
// directories of its data and what the host grants it. A Runner starts and stops units, a
// Prober says how they are, a Switcher tries a new version beside the old one, a Console
// lets an operator look inside. There is one unit of a name at a time, and its name is
// the manifest's. A running unit does not depend on the agent: it survives its restart.
//
// The package holds types only. It imports neither the agent nor a runtime.
package workloads
