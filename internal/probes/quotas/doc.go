// Command quotas is the init of a virtual machine in which a file system limits
// directories: it has package quota set limits, writes beyond them as an ordinary user,
// and says on the console how far it came.
package main
