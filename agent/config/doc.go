// Package config reads a host's configuration, twinkeel.toml.
//
// A Config is a plain value: every key has its default, every value was checked, and
// no TOML type shows. A key that is not known is refused, with file, line and key,
// and so is a value of the wrong type or outside its bounds: a host whose owner
// mistyped "windows" must not update at noon.
//
// Drop-ins are the files conf.d/*.toml beside the main file, read in the order of
// their names. A later file wins key by key. Two things add up instead: the partitions
// of a slot, and [[health.probe]] entries, of which a later one with the same name
// replaces the earlier one.
//
// Paths come from this file only, never from the network. The package reads files and
// does nothing else; it never imports a network.
package config
