// Package data keeps what applications write, as directories of the data partition.
//
// A generation is one state of an application's versioned volumes. It has a name, and a
// name never changes what it stands for: a deployment says which generation an app runs
// on, so that data goes forth and back by the very pointer that chooses the program.
// Clone makes a generation from another one, by reflinks where the file system has them
// and by a copy elsewhere; a copy is bounded in room and time, which CheckClone finds out
// before anything is stopped. What is being made stands under a name that nobody looks
// at until it is whole and durable.
//
//	APP/gen/NAME/VOLUME   versioned
//	APP/shared/VOLUME     shared, identity and cache: never copied, never taken back
//
// Links in a data directory are copied as links and never followed; devices and sockets
// are left out. The package knows no transaction and never imports the agent.
package data
