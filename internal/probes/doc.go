// Package probes lists what an application must not get from the host's kernel, one
// probe for each thing, and what is expected of each level of isolation.
//
// A probe is tried from inside, by the static command in the directory inside, which a
// test builds and puts into an image. Its answer is a line: the probe's name, then open
// or closed, then what the kernel said. System calls are made with arguments that do
// nothing; a call counts as closed if it is refused (EPERM, EACCES, ENOSYS), and as open
// if the kernel got as far as looking at the arguments. A file counts as closed if it
// cannot be opened or reads as empty. A probe without an answer counts as open: a
// confinement is not better because the judge did not get in.
//
// The list was written before the profile that it judges. The package imports nothing of
// twinkeel, and only tests import it.
package probes
