// Package mount brings an application's image and data to where a container can use
// them: the image only if its bytes are those of the signed manifest, and both with the
// application's own range of ids in place of the ids on disk, so that nothing is ever
// chowned and no file of the host's belongs to an application. All of an image is read and
// hashed before it is mounted, unless its file is the very one, unchanged since, of which
// the caller knows that somebody did so in this boot (Identify).
//
// It also gives a mount namespace the few device nodes that every container has, lest
// containers share them with the host and each other.
//
// The image is mounted from its file; where the kernel cannot do that, over a loop
// device that vanishes with the mount. Mounts are made in the mount namespace of the
// calling process, which is expected to be its own: they end with it, however it ends.
//
// It imports workloads, release and internal/verity, and knows nothing of containers.
package mount
