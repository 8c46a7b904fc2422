// Package readstate has the agent's own commands read the state of an agent whose machine is off, from a
// copy of its directory.
//
// What they say of it is not judged but for one thing: that nothing of it is damaged. It is for tests that
// ask what a power cut left on a disk. The package needs the command twinkeel, as it was built, and knows nothing
// of the machine: which slot ran is made up.
package readstate
