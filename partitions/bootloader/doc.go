// Package bootloader says which slot boots next.
//
// The boot record holds, for each slot, {Priority, Tries, Successful}. A slot is
// bootable if its priority is not 0 and it is either successful or has tries left;
// the loader takes the bootable slot with the highest priority and, if that slot is
// not yet successful, takes one from its tries before it starts it. State changes by
// pure methods (Clear, Arm, Commit, Revert): load, change in memory, store once.
//
// A BootLoader backend makes Store durable before it returns. Where it needs two
// writes it lowers the standing slot before it raises the new one. bootloadertest is
// the one suite that every backend passes.
package bootloader
