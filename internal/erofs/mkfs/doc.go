// Package mkfs writes images of the Enhanced Read-Only File System, uncompressed.
//
// The nouns: a Tree holds Nodes by path; a Node is what an inode says, and for a regular
// file where its bytes come from; Write turns a tree into an image.
//
//	t, err := mkfs.NewTree(mkfs.Node{Mode: mkfs.Directory | 0o755})
//	err = t.Add("etc", mkfs.Node{Mode: mkfs.Directory | 0o755})
//	err = t.Add("etc/hostname", mkfs.Node{Mode: mkfs.Regular | 0o644, Size: 5, Content: mkfs.Bytes("host\n")})
//	err = t.Link("etc/name", "etc/hostname")
//	size, err := mkfs.Write(ctx, file, t, mkfs.Options{Time: time.Unix(0, 0)})
//
// Paths are relative to the root, clean, and never follow a link: a parent has to be a
// directory that was added before. Add takes the place of what is there; Remove takes
// away a whole subtree. So the layers of a container image, or the entries of a tar
// archive, can be put into a tree as they come.
//
// Promises. The same tree, options and contents give the same bytes, whatever the order
// in which the tree was made. The image is written front to back into an io.Writer, each
// file is read once, and memory follows the number of files, not their bytes. A file that
// is longer or shorter than its Size says is an error. The kernel mounts what is written,
// from a block device or straight from a file; fsck.erofs finds no fault with it.
//
// The layout serves deltas. Inodes lie first, in the order of the paths, then the blocks
// of directories, then those of files in the order of their paths, each file at a block's
// start. A short file lies right behind its inode: otherwise each of a thousand little files
// would take a block. A node whose time is zero has that of the image and
// an inode of half the size.
//
// It writes what Linux's fs/erofs/erofs_fs.h describes; a reader needs nothing newer than
// Linux 5.4. It imports nothing of this module.
package mkfs
