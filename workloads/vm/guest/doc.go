// Package guest is the init of a machine of isolation level vm: it is started by the
// guest's kernel from the initramfs that package vm packs, makes devices, disks and
// network ready, runs the application as its own user in the image's root, and turns the
// machine off when that has ended.
//
// The application sees its image, its volumes and nothing of the initramfs. It has no
// capabilities and gains none; what the host's kernel does not have, it cannot reach. That
// is why less is taken from it here than in a container.
package guest
