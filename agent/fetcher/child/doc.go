// Package child is the process without privileges: the only part of a host that talks
// to the network and the only one that decompresses.
//
// It holds no state and no trust. It is told over a socket which repository it serves
// (an HTTP server, or a bundle whose descriptor it is handed) and then answers three
// questions: the bytes of a file, the plan of a segment, the health of a local
// service. The words of that conversation are in package wire.
//
// Its promise is about bounds, not about truth: whatever a server sends, an answer is
// no longer than was asked for, comes no slower than 1 KiB/s, is not decompressed
// behind anybody's back, stems from the origin that was configured, and ends in one
// clear word for what went wrong. Whether the bytes are the right ones is for the
// writer to find out.
//
// The package imports neither agent nor signing nor partitions: nothing it could
// decide is worth taking it over for.
package child
