#!/bin/sh
# Makes the images of this directory, and of each what is in it (SHA-256 of the files'
# contents). Needs erofs-utils 1.5 or later.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tree=$work/tree
mkdir -p "$tree/etc/deep/er" "$tree/usr/lib" "$tree/empty"
printf 'host\n' >"$tree/etc/hostname"
: >"$tree/etc/nothing"
seq 1 1500 >"$tree/usr/lib/libone.so.1.2.3"
seq 1 820 | head -c 4096 >"$tree/usr/lib/block"
seq 9 4000 | sed 's/$/ and more words of a text that can be compressed well/' | head -c 70000 >"$tree/usr/lib/long"
ln -s libone.so.1.2.3 "$tree/usr/lib/libone.so.1"
long=$tree/etc/deep/file-with-a-rather-long-name
echo first >"$long-0"
i=1
while [ $i -lt 150 ]; do # more than a block of names
	ln "$long-0" "$long-$i"
	i=$((i + 1))
done

(cd "$tree" && find . -type f ! -name 'file*[1-9]*' | LC_ALL=C sort | sed 's,^\./,,' | xargs sha256sum) >tree.sha256
make() { # NAME OPTION...
	name=$1
	shift
	mkfs.erofs --quiet -T0 -U00000000-0000-0000-0000-000000000001 --all-root "$@" "$name.img" "$tree"
}
make plain -Enoinline_data,force-inode-extended
make inline
make chunks --chunksize=4096
make lz4 -zlz4hc,9
make lz4-big -zlz4hc,9 -C16384
make lz4-legacy -zlz4hc,9 -Elegacy-compress
for name in lz4 lz4-big lz4-legacy; do
	dump.erofs -e --path=/usr/lib/long "$name.img" | sed -n 's/^ *[0-9]*: *[0-9]*\.\. *[0-9]* | *[0-9]* : *\([0-9]*\)\.\. *\([0-9]*\) .*/\1 \2/p'
done >long.extents
