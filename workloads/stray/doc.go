// Package stray ends processes that a command has left behind, wherever they have gone:
// they are known by a variable in their environment, which they inherit.
//
// The package imports nothing of twinkeel.
package stray
