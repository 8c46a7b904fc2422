// Package quota keeps directories from growing beyond a size.
//
// Limit has the file system do it, where that has project quotas (ext4 and xfs, mounted
// with prjquota) or simple quotas of subvolumes (btrfs, which Mkdir makes): whoever writes
// more is told that there is no room, and nobody else notices. Everywhere else ErrNone says that somebody has to look: Measure adds up what a
// directory takes, and Free what is left for all.
//
// The package knows no application and imports nothing of twinkeel.
package quota
