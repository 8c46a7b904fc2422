// Package machine is a computer to update: a disk, a power switch and a firmware,
// around the real binaries.
//
// A Disk is an image file with a GPT, attached to a loop device; WriteImage fills its
// partitions as a factory does. A Machine, powered on, asks its boot loader for a slot, starts what that slot holds
// (the System) and then the real agent, and does it again whenever the agent runs the
// reboot command or somebody cuts the power. An Isolated process and all it starts,
// mounts and attaches vanish together, however it ends.
//
// The package serves demonstrations and tests on the machine they run on. It knows
// nothing of releases or trust and reaches the agent only as an operator would: by its
// configuration file, its commands and its reboot command.
package machine
