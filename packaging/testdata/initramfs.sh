# The initramfs of a distribution's own tools, with and without the way into a slot.
kernel=$(ls /tmp/modules)
fresh=
[ -e /lib/modules ] || fresh=/lib/modules
mkdir -p /lib/modules
mv "/tmp/modules/$kernel" /lib/modules/
mv "/tmp/config-$kernel" /boot/
depmod "$kernel"
work=$(mktemp -d /tmp/initramfs.XXXXXX)
export SOURCE_DATE_EPOCH=1700000000
# Only what hooks ask for: no test needs the drivers of all machines.
cp -a /etc/initramfs-tools "$work/conf"
sed -i 's/^MODULES=.*/MODULES=list/' "$work/conf/initramfs.conf"

make() { mkinitramfs -d "$work/conf" -o "$work/$1" "$kernel"; mkdir "$work/$1.d"; (cd "$work/$1.d" && unmkinitramfs "$work/$1" .); }

# A host on which the agent is installed and nothing was asked for boots as before.
make plain
[ ! -e "$work/plain.d/sbin/twinkeel-init" ]
[ ! -e "$work/plain.d/usr/sbin/twinkeel-init" ]

echo BOOT=twinkeel >/etc/initramfs-tools/conf.d/twinkeel
cp /etc/initramfs-tools/conf.d/twinkeel "$work/conf/conf.d/"
make slots
make again
cd "$work/slots.d"
cmp usr/sbin/twinkeel-init /usr/lib/twinkeel/twinkeel-init
grep -qx BOOT=twinkeel conf/conf.d/twinkeel
for module in dm-verity erofs overlay vfat; do
	grep -qx "$module" conf/modules
	find . -name "$module.ko*" | grep -q .
done
cmp "$work/slots" "$work/again"

# The script, as the initramfs's init reads it: what it calls is there, and it ends in the
# first stage without anything of the initramfs in its environment.
printf '#!/bin/sh\nexport -p >/tmp/initramfs.env\necho "$0" >/tmp/initramfs.ran\n' >"$work/twinkeel-init"
chmod 755 "$work/twinkeel-init"
mount --bind "$work/twinkeel-init" "$work/slots.d/usr/sbin/twinkeel-init"
mkdir -p "$work/slots.d/tmp"
chroot "$work/slots.d" /bin/sh -ec '
	export quiet=y BOOT=twinkeel ROOT=x rootmnt=/root init=/sbin/init
	export PATH=/sbin:/usr/sbin:/bin:/usr/bin
	. /scripts/functions
	. /scripts/local
	. /scripts/twinkeel
	wait_for_udev() { :; }
	udevadm() { :; }
	modprobe() { :; }
	run_scripts() { :; }
	mount_top; mount_premount; mountroot; echo returned; exit 1'
grep -qx /sbin/twinkeel-init "$work/slots.d/tmp/initramfs.ran"
grep -q ' PATH=' "$work/slots.d/tmp/initramfs.env"
if grep -E ' (BOOT|ROOT|rootmnt|init|quiet)=' "$work/slots.d/tmp/initramfs.env"; then exit 1; fi
umount "$work/slots.d/usr/sbin/twinkeel-init"
cd /
rm -rf "$work" "/lib/modules/$kernel" "/boot/config-$kernel" /etc/initramfs-tools/conf.d/twinkeel
[ -z "$fresh" ] || rmdir "$fresh"
