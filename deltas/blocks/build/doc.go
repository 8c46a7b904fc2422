// Package build makes block maps (package blocks): it hashes an image's blocks,
// compresses its frames one by one, and verifies what it made by decoding every frame.
//
// A frame has nothing to lean on but itself, so frames together are larger than the
// full image: 185 MB where that has 139, for an image of 464 MB. They are never
// downloaded together.
//
// The result does not depend on the number of threads. Only publishers import this
// package, which has an encoder in it.
package build
