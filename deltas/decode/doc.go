// Package decode turns the payloads of a container into plans that deltas.Execute
// carries out, and applies whole containers.
//
// It is the home of the decompressor, apart from package deltas, so that the process
// that writes slots does not hold one: on a host Decode runs in a process without
// privileges, and all it can do to its caller is to write a wrong plan, whose result
// fails the comparison with the segment's target digest.
//
// A payload is verified against its digest before anything else looks at it. Memory is
// bounded by the limits of package deltas: one dictionary, one data stream, one difference
// stream, the instructions and what they say of moves, at most 25 MiB beside the payload
// itself, and what a coder takes.
package decode
