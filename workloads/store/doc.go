// Package store keeps the images of applications as files of the data partition.
//
// A file is called by its image's verity root. While it is written it ends in .part; Seal
// makes it read-only and renames it to .erofs, durably. Whether a sealed file still holds
// what was signed is for its reader to check, once in each process that starts it, and again
// when the file has changed (Identity). Room is taken before the first byte is written.
//
// The package knows neither manifests nor transactions.
package store
