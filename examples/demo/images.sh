#!/bin/bash
# Builds four releases of a real Debian system as deterministic images, for `make demo`:
#
#   v1   the suite as it was released      (main only)
#   v2   v1 with every fix since           (main + updates + security, a newer kernel)
#   v3   v2 with a mistake in its web server's configuration
#   v4   v2 with that configuration as it was meant
#
# each of them as  OUT/vN/root.img  (EROFS, uncompressed)  and  OUT/vN/boot.img  (ext2
# with the kernel; a boot loader reads ext2, few read EROFS).
#
#   images.sh OUT          build what is missing in OUT
#   images.sh --check OUT  build v1 a second time, elsewhere, and compare the bytes
#
# The same tar gives the same bytes: files sorted, times, owners, UUIDs and hash seeds
# fixed. Every output is written aside and renamed when whole, so that an interrupted
# run is simply repeated. Packages come from the mirrors this machine's apt uses.
#
# Needs root, and: mmdebstrap erofs-utils e2fsprogs.
set -euo pipefail
export LC_ALL=C SOURCE_DATE_EPOCH=1700000000

suite=bookworm
kernel=linux-image-cloud-$(dpkg --print-architecture) # the newest ABI of each suite
packages="systemd systemd-sysv udev dbus openssh-server openssl ca-certificates curl \
nginx-core python3 iproute2 nftables e2fsprogs kmod zstd $kernel"
v1=2026.11.1 v2=2026.11.2 v3=2026.11.3 v4=2026.11.4
uuid=5f4a1c2e-8d37-4b7e-9a55-0c1d2e3f4a5b

mirror=$(cd "$(dirname "$0")/../.." && pwd)/.ci/mirror
check=
[ "${1-}" = --check ] && { check=yes; shift; }
[ $# = 1 ] || { echo "usage: images.sh [--check] OUT" >&2; exit 2; }
# A change of this script, and with it of the package set, makes new images.
out=$1/$suite-$(sha256sum "$0" | cut -c1-12)
mkdir -p "$out"
exec 9>"$out/.lock"
flock -n 9 || { echo "waiting for another build in $out"; flock 9; }

# Trees are unpacked in memory if they fit: an unpacked system is about 600 MB.
scratch_parent=$out
if [ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -n1)" -gt 1500000 ] 2>/dev/null; then
  scratch_parent=/dev/shm
fi
scratch=$(mktemp -d "$scratch_parent/twinkeel-images.XXXXXX")
trap 'rm -rf "$scratch" "$out"/*.partial' EXIT
trap 'exit 130' INT TERM

began() { step_start=$(date +%s.%N); printf '  %-34s' "$1"; }
ended() { printf '%7.1f s   %s\n' "$(echo "$(date +%s.%N) $step_start" | awk '{print $1-$2}')" "${1-}"; }

# tarball NAME SOURCE...: installs the packages from SOURCEs into OUT/NAME.tar.
tarball() {
  local name=$1; shift
  [ -s "$out/$name.tar" ] && return
  began "install $name from the archive"
  mmdebstrap --quiet --mode=root --format=tar --variant=minbase --include="$(echo $packages | tr ' ' ,)" \
    --aptopt='Apt::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
    --aptopt='Acquire::Retries "3"' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$out/$name.tar.partial" "$@" </dev/null 9>&-
  mv "$out/$name.tar.partial" "$out/$name.tar"
  ended "$(du -m "$out/$name.tar" | cut -f1) MB"
}

# tidy TREE: takes out what differs from build to build, belongs to one machine, or is of
# no use on a server without a desk.
tidy() {
  (
    cd "$1"
    rm -rf var/log/* var/cache/* var/lib/apt/lists/* tmp/* var/tmp/* run/* etc/ssh/ssh_host_* \
      boot/initrd.img* initrd.img* vmlinuz* var/lib/dbus/machine-id var/lib/dpkg/*-old \
      etc/hostname etc/resolv.conf etc/.pwd.lock var/lib/systemd/random-seed var/lib/systemd/catalog/database \
      usr/lib/udev/hwdb.d usr/lib/udev/hwdb.bin .dockerenv
    find usr -name __pycache__ -prune -exec rm -rf {} +
    find usr/share/doc usr/share/man usr/share/locale -mindepth 1 -delete
    local d
    for d in sound net/bluetooth net/mac80211 drivers/{media,gpu,staging,net/wireless,infiniband,iio,input,hid,isdn,usb/gadget,video}; do
      rm -rf usr/lib/modules/*/kernel/$d
    done
    : >etc/machine-id
  )
}

# site TREE VERSION: the part that is this product's: a web server that tells the version.
# Where it listens is the host's business, in /run.
site() {
  sed -i '/^IMAGE_/d' "$1/usr/lib/os-release"
  printf 'IMAGE_ID=twinkeel-demo\nIMAGE_VERSION=%s\n' "$2" >>"$1/usr/lib/os-release"
  rm -f "$1"/etc/nginx/sites-enabled/*
  cat >"$1/etc/nginx/sites-enabled/demo" <<SITE
server {
	include /run/demo/listen.conf;
	access_log off;
	location = /healthz { default_type text/plain; return 200 "$2 nginx/\$nginx_version\n"; }
}
SITE
}

# images TREE DIR: TREE as DIR/root.img and DIR/boot.img. The tree's /boot is emptied.
images() {
  local tree=$1 dir=$2 kernel_file
  rm -rf "$dir.partial"
  mkdir "$dir.partial"
  # Nothing of this machine's /etc/mke2fs.conf may shape the result.
  printf '[defaults]\n[fs_types]\next2 = {\nblocksize = 4096\n}\nboot = {\nblocksize = 4096\n}\n' >"$scratch/mke2fs.conf"
  truncate -s 16M "$dir.partial/boot.img"
  MKE2FS_CONFIG=$scratch/mke2fs.conf E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -F -t ext2 -T boot -b 4096 -I 256 -m 0 -N 32 \
    -O none,filetype,sparse_super,large_file -U "$uuid" -E "hash_seed=$uuid,root_owner=0:0,nodiscard" \
    -L boot "$dir.partial/boot.img"
  # One file after the other, not a directory, whose order the file system would choose.
  kernel_file=$(cd "$tree/boot" && ls vmlinuz-* | sort -V | tail -n1)
  printf 'write %s vmlinuz\nwrite %s config\nset_inode_field vmlinuz mode 0100644\nset_inode_field config mode 0100644\n' \
    "$tree/boot/$kernel_file" "$tree/boot/config-${kernel_file#vmlinuz-}" >"$scratch/boot.cmd"
  E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH debugfs -w -f "$scratch/boot.cmd" "$dir.partial/boot.img" >/dev/null 2>&1
  find "$tree/boot" -mindepth 1 -delete
  find "$tree" -print0 | xargs -0 touch -h -d @"$SOURCE_DATE_EPOCH"
  mkfs.erofs --quiet -T"$SOURCE_DATE_EPOCH" -U "$uuid" "$dir.partial/root.img" "$tree" >/dev/null
  rm -rf "$dir"
  mv "$dir.partial" "$dir"
}

# release NAME VERSION TAR [HOOK]: the images of one release from the tarball TAR.
release() {
  local name=$1 version=$2 tar=$3 hook=${4:-true}
  [ -s "$out/$name/root.img" ] && return
  began "image $name ($version)"
  mkdir "$scratch/$name"
  tar -C "$scratch/$name" -x --numeric-owner --xattrs -f "$out/$tar.tar" --exclude='./dev/*'
  tidy "$scratch/$name"
  site "$scratch/$name" "$version"
  "$hook" "$scratch/$name"
  (cd "$scratch/$name" && find . -type f -print0 | sort -z | xargs -0 sha256sum) >"$out/$name.files.partial"
  (cd "$scratch/$name" && find . -type l -printf '%l  %p\n' | sort) >>"$out/$name.files.partial"
  images "$scratch/$name" "$out/$name"
  mv "$out/$name.files.partial" "$out/$name.files"
  rm -rf "${scratch:?}/$name"
  ended "root $(du -m --apparent-size "$out/$name/root.img" | cut -f1) MB, boot $(du -m --apparent-size "$out/$name/boot.img" | cut -f1) MB"
}

# tuned TREE: what v3 was to bring, and v4 brings.
tuned() { echo 'keepalive_requests 5000;' >"$1/etc/nginx/conf.d/tuning.conf"; }

# broken TREE: v3's mistake, one that only shows when the service starts.
broken() { echo 'keepalive_request 5000;' >"$1/etc/nginx/conf.d/tuning.conf"; }

# changed OLD NEW: how many files are new, gone or different.
changed() {
  awk 'NR == FNR { old[substr($0, index($0, "  ") + 2)] = $1; next }
    { p = substr($0, index($0, "  ") + 2); if (!(p in old)) n++; else { if (old[p] != $1) n++; delete old[p] } }
    END { for (p in old) n++; print n + 0 }' "$@"
}

main=$("$mirror" $suite)
security=$("$mirror" $suite-security)

if [ -n "$check" ]; then
  kept=$(sha256sum <"$out/v1/root.img") kept_boot=$(sha256sum <"$out/v1/boot.img")
  again=$(mktemp -d "$out/again.XXXXXX")
  trap 'rm -rf "$scratch" "$again"' EXIT
  # On the disk, not in memory: another file system lists its directories in another order.
  tar -C "$again" -x --numeric-owner --xattrs -f "$out/v1.tar" --exclude='./dev/*'
  tidy "$again"
  site "$again" "$v1"
  images "$again" "$scratch/v1"
  [ "$kept" = "$(sha256sum <"$scratch/v1/root.img")" ] || { echo "root.img of v1 differs when it is built again" >&2; exit 1; }
  [ "$kept_boot" = "$(sha256sum <"$scratch/v1/boot.img")" ] || { echo "boot.img of v1 differs when it is built again" >&2; exit 1; }
  echo "v1 built again: identical (root ${kept%% *})"
  exit
fi

tarball v1 "deb $main $suite main"
tarball v2 "deb $main $suite main" "deb $main $suite-updates main" "deb $security $suite-security main"
release v1 "$v1" v1
release v2 "$v2" v2
release v3 "$v3" v2 broken
release v4 "$v4" v2 tuned
grep -v -e ' ./usr/lib/modules/' -e ' ./boot/' "$out/v1.files" >"$scratch/v1"
grep -v -e ' ./usr/lib/modules/' -e ' ./boot/' "$out/v2.files" >"$scratch/v2"
printf '  v1 to v2: %d files of %d differ, %d of them outside of the kernel\n' \
  "$(changed "$out/v1.files" "$out/v2.files")" "$(wc -l <"$out/v2.files")" "$(changed "$scratch/v1" "$scratch/v2")"
ln -sfn "${out##*/}" "$1/current"
