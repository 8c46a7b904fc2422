// Package sim holds the fakes behind every seam of the agent: a machine in memory.
//
// A World owns the clock, the faults and the count of effects. Whatever the agent does
// to the world outside (a write to a Disk, each part of a Dir's Replace, a call of the
// Net) is one step of the World, and at any step the power can go, the process can be
// killed, or the call can fail. A Disk and a Dir remember what was not flushed yet; a
// power cut loses it, keeps it, tears it, reorders it or turns it into garbage. A
// Machine puts slots, boot record and state directory together, boots what the boot
// loader's real code picks, and keeps account of the laws that may never be broken.
//
// There is no goroutine, no wall clock and no randomness but the seed's, so the same
// seed gives the same history. The package holds no logic of a transaction: what runs
// on the machine is the real agent, the real boot loader backend and the real decoder.
// It is imported by tests only.
package sim
