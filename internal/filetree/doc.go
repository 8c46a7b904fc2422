// Package filetree is what reading the files of an image has in common, whatever file
// system is in it: ranges that are checked before they are read, and directories that are
// visited once each, by names that lead nowhere else.
//
// An Image is bytes, and what to call it when they make no sense. A Tree is the walk over
// its directories. Whoever knows the file system says what a directory holds.
//
// The package knows no file system and imports nothing of twinkeel.
package filetree
