#!/bin/bash
# Builds images of a real Debian: the packages of packages.txt, the agent from its own
# package, and the files of overlay/.
#
#   build.sh OUT       OUT/v1  the suite as it was released (main only)
#                      OUT/v2  with every fix since (updates and security)
#                      OUT/v3  v2 with a mistake in the configuration of its ssh server
#
# each with root.erofs and boot.img, as `twinkeel-server image build` makes them. What comes
# from the archive is kept in OUT and not fetched again until packages.txt changes; remove
# OUT/fixed-*.tar to get the fixes of today. Needs root (for chroot), mmdebstrap, and
# bin/twinkeel-server and .cache/deb, as `make build deb` leave them.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
: "${SOURCE_DATE_EPOCH:=1700000000}" "${LOADER:=grub}"
export SOURCE_DATE_EPOCH

[ $# = 1 ] || { echo "usage: build.sh OUT" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
top=$here/../..
suite=bookworm
mkdir -p "$1"
out=$(cd "$1" && pwd)
list=$(sed '/^#/d' "$here/packages.txt" | paste -sd,)
key=$(echo "$suite $list" | sha256sum | cut -c1-12)
scratch=$(mktemp -d "$out/.scratch.XXXXXX")
trap 'rm -rf "$scratch" "$out"/*.partial' EXIT
trap 'exit 130' INT TERM

# tarball NAME SOURCE...: what comes from the archive.
tarball() {
	local tar=$out/$1-$key.tar
	shift
	[ -s "$tar" ] && return
	echo "installing $(basename "$tar" .tar) from the archive"
	mmdebstrap --quiet --mode=root --format=tar --variant=minbase --include="$list" \
		--aptopt='Apt::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='Acquire::Retries "5"' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		"$suite" "$tar.partial" "$@" </dev/null
	mv "$tar.partial" "$tar"
}

# image NAME TARBALL [HOOK]: images of the tarball with our packages and files.
image() {
	local dir=$scratch/$1 hook=${3:-true}
	mkdir "$dir"
	tar -C "$dir" -x --numeric-owner --xattrs -f "$out/$2-$key.tar" --exclude='./dev/*'
	cp "$top"/.cache/deb/twinkeel{,d}_*_amd64.deb "$dir/tmp"
	chroot "$dir" sh -ec 'dpkg -i /tmp/*.deb; rm /tmp/*.deb' >/dev/null
	cp -a --no-preserve=ownership "$here/overlay/." "$dir"
	chroot "$dir" systemctl enable --quiet systemd-networkd.service sshd-keys.service
	"$hook" "$dir"
	"$top/bin/twinkeel-server" image build "$dir" --tidy --loader "$LOADER" -o "$out/$1"
	rm -rf "$dir"
}

# broken TREE: a mistake that only shows when the service starts.
broken() { echo 'ListenAddres 0.0.0.0' >"$1/etc/ssh/sshd_config.d/50-mistake.conf"; }

main=$("$top/.ci/mirror" $suite) security=$("$top/.ci/mirror" $suite-security)
tarball released "deb $main $suite main"
tarball fixed "deb $main $suite main" "deb $main $suite-updates main" "deb $security $suite-security main"
image v1 released
image v2 fixed
image v3 fixed broken
