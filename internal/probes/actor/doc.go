// Command actor is an application for tests: one that serves, or one that misbehaves in a
// way that is named by its first argument. It is static and needs nothing around it.
package main
