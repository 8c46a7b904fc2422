// Package bootloadertest is the one suite that every boot loader backend passes.
//
// The suite owns the storage. It cuts the power inside every write of Store, Describe
// and of the loader's own counting, leaves behind every state that a disk may be in
// then (write lost, applied, torn at 512 and at 64 bytes, sector full of garbage), and
// checks that the machine still starts, what it starts, that reader and loader agree,
// and that the interrupted call can be made again. A random life of installs, commits,
// reverts and power cuts checks that no half-written slot is ever started.
//
// It imports testing and rapid, and is imported by tests only.
package bootloadertest
