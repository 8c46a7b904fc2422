// Package diff makes containers: the publisher's half of package deltas.
package diff
