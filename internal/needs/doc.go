// Package needs is for tests that need a part which a machine may lack: a tool, root, a file
// system. Such a test is skipped loudly, and fails in CI, where each of them can be had.
//
// It also mounts file systems of a test's own, for the tests of more than one package. The
// package imports nothing of twinkeel, and only tests import it.
package needs
