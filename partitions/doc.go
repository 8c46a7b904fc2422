// Package partitions knows slots and the devices they are made of.
//
// A host has two slots, A and B. A slot is a set of partitions (root, boot), each of
// them a Device: something with a size that is read and written at offsets and that
// can be told to make its writes durable. The running slot is only ever read; the
// idle one is written from front to back and then read back past the page cache.
//
// The package imports no network, no trust and no policy: it is told which slot to
// write and does exactly that, within its bounds.
package partitions
