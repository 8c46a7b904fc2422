#!/bin/sh
# Makes the images of this directory, and a list of what is in them (SHA-256 of the
# files' contents). Needs e2fsprogs.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tree=$work/tree
mkdir -p "$tree/etc/deep" "$tree/usr/lib"
printf 'host\n' >"$tree/etc/hostname"
: >"$tree/etc/nothing"
seq 1 1500 >"$tree/usr/lib/libone.so.1.2.3"
seq 9 20000 | head -c 70000 >"$tree/usr/lib/long"
ln -s libone.so.1.2.3 "$tree/usr/lib/libone.so.1"
i=0
while [ $i -lt 60 ]; do
	printf '%d' $i >"$tree/etc/deep/file-with-a-rather-long-name-$i"
	i=$((i + 1))
done
(cd "$tree" && find . -type f | LC_ALL=C sort | sed 's,^\./,,' | xargs sha256sum) >tree.sha256
make() { # NAME OPTION...
	name=$1
	shift
	E2FSPROGS_FAKE_TIME=1 mke2fs -q -F -U 00000000-0000-0000-0000-000000000001 -E hash_seed=00000000-0000-0000-0000-000000000002,root_owner=0:0 -N 80 -d "$tree" "$@" "$name.img" 320k
}
make ext4 -t ext4 -b 1024 -O ^has_journal,^resize_inode
make ext4-32bit -t ext4 -b 1024 -O ^has_journal,^resize_inode,^64bit,^metadata_csum
make ext2 -t ext2 -b 1024 -O ^resize_inode
# Holes and pieces in the wrong order, as after years of use.
make pieces -t ext4 -b 1024 -O ^has_journal,^resize_inode
debugfs -w -f /dev/stdin pieces.img >/dev/null 2>&1 <<'D'
rm /etc/deep/file-with-a-rather-long-name-3
rm /etc/deep/file-with-a-rather-long-name-9
rm /etc/deep/file-with-a-rather-long-name-20
rm /etc/deep/file-with-a-rather-long-name-21
rm /etc/deep/file-with-a-rather-long-name-40
rm /etc/hostname
D
head -c 12000 "$tree/usr/lib/long" >"$work/torn"
debugfs -w -R "write $work/torn torn" pieces.img >/dev/null 2>&1
