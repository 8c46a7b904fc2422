// Package story tells, with the real commands, what twinkeel is for: one publisher, one
// host and four releases, of which one is bad.
//
// A Story is given what differs from telling to telling: the images, where the host has
// its slots, what runs in them, and how health is judged. The chapters are always the
// same: publish and leave the factory; update by delta, on trial, to a commit; a release
// that fails its health check and that the host leaves by itself, for good; a repaired
// release from a bundle; a rollback by hand while neither server nor agent runs. Each
// chapter asserts what it claims, so that a Story that ends well is a test passed.
//
// The package starts processes and looks at their answers. It takes no part in signing,
// deltas or transactions, and knows of the formats only what every operator sees.
package story
