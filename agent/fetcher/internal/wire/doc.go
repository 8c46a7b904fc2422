// Package wire is the language that the writer and the fetcher speak over a Unix socket.
//
// A connection carries frames: a header of eight bytes (kind, number of descriptors
// that come along, two zero bytes, length in big-endian order) and a payload. It opens
// with an Options frame, which the fetcher answers with End; after that the writer asks
// one Request at a time, followed by its Payload frames, and the fetcher answers with
// any number of Data and Alive frames and exactly one End. Nothing is ever answered
// out of turn: to give up on a request is to close the connection.
//
// A process that the writer started has one more connection, for control: it carries
// the Limits that the process has to put on itself before anything else, and then the
// descriptors of the connections proper.
//
// Each kind has its own greatest length, checked before a byte of the payload is read,
// so that neither end can make the other allocate. The writer treats the fetcher as an
// enemy: descriptors travel only towards the fetcher, and a frame that is out of place
// is an error, never a guess.
//
// The package imports neither agent nor anything that reaches the network.
package wire
