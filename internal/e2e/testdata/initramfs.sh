#!/bin/sh
# Makes an initramfs by Debian's own tools, with the way into a slot in it, in a Debian that
# was unpacked.
#
#	initramfs.sh ROOT KERNEL INIT SOURCE
#
# KERNEL is a directory with boot/ and lib/modules, INIT is twinkeel-init, SOURCE holds the hook
# and the script. ROOT/initrd.img is made. Needs root, for chroot; mounts and processes are
# in namespaces of their own.
set -eu
if [ "${INSIDE-}" = "" ]; then
	INSIDE=1 exec unshare --mount --pid --fork --net sh "$0" "$@"
fi
root=$1 kernel=$2 init=$3 source=$4
version=$(ls "$kernel/lib/modules")
mkdir -p "$root/lib/modules" "$root/usr/lib/twinkeel"
cp -a "$kernel/lib/modules/$version" "$root/lib/modules/"
cp "$kernel/boot/config-$version" "$root/boot/"
# As the package of the agent installs them.
install -m 755 "$init" "$root/usr/lib/twinkeel/twinkeel-init"
install -m 755 "$source/hook" "$root/usr/share/initramfs-tools/hooks/twinkeel"
install -m 644 "$source/script" "$root/usr/share/initramfs-tools/scripts/twinkeel"
echo BOOT=twinkeel >"$root/etc/initramfs-tools/conf.d/twinkeel"
# Not the drivers of all machines: the slot has room for those of this one.
sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf"
printf 'virtio_pci\nvirtio_blk\nvirtio_net\n' >>"$root/etc/initramfs-tools/modules"
mount -t proc proc "$root/proc"
for d in null urandom zero full tty; do
	touch "$root/dev/$d"
	mount --bind "/dev/$d" "$root/dev/$d"
done
chroot "$root" depmod "$version"
chroot "$root" mkinitramfs -o /initrd.img "$version"
