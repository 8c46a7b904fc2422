// Package agent is the host's side: one transaction from poll to commit or rollback.
//
// A release is staged into the idle slot, read back, tried for one boot, judged, and
// committed or left again. Two witnesses say where a transaction stands: the journal
// (what was meant) and the boot record with the booted slot (what is so). Next is a
// pure function from both to the one step to take; starting, resuming after a crash
// and recovering are the same call. The files of this package, read in the order
// poll, plan, stage, verify, arm, reboot, health, commit, revert, are one update.
//
// Everything outside the process is reached through small interfaces (Net, Slots,
// BootLoader, durable.Dir, Health, Clock), so that a simulator can cut the power at
// every effect of the very same code.
//
// The package never imports an encoder of deltas, a signer, a server, a database,
// net/http or a decompressor.
package agent
