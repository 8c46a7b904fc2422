// Package partitions knows slots and the devices they are made of.
//
// A host has two slots, A and B. A slot is a set of partitions (root, boot), each of
// them a Device: something with a size that is read and written at offsets and that
// can be told to make its writes durable. The running slot is only ever read; the
// idle one is written from front to back and then read back past the page cache.
//
// A partition is named by a spec: PARTLABEL=x, PARTUUID=x, the path of a block device,
// or the path of a regular file, which quickstarts and tests use. Set opens the images
// of both slots by their specs, refuses to open any of the running slot for writing,
// and never creates, resizes or repartitions anything.
//
// The package imports no network, no trust and no policy: it is told which slot to
// write and does exactly that, within its bounds.
package partitions
