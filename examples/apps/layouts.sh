#!/bin/bash
# Builds container images of real services from Debian packages, as OCI layouts:
#
#   OUT/nginx-1  OUT/postgres-1  OUT/redis-1    the suite as it was released   (main only)
#   OUT/nginx-2  OUT/postgres-2  OUT/redis-2    with every fix since           (updates, security)
#
#   layouts.sh OUT [APP...]     build what is missing in OUT
#
# and from each of them an application, with app build and the app.toml beside this script:
#
#   twinkeel-server app build --from OUT/nginx-1 --manifest nginx.toml --version "$(cat OUT/nginx-1/version)" -o build
#
# A layout has two layers: the packages with all that they depend on, unpacked and not
# configured, less documentation and less PostgreSQL's compiler (LLVM) and Perl, which are two
# thirds of its bytes; and the files of the directory APP beside this script. The same packages
# give the same bytes. Every layout is written aside and renamed when whole. Packages come from
# the mirrors this machine's apt uses. Needs mmdebstrap; root, or user namespaces.
set -euo pipefail
export LC_ALL=C SOURCE_DATE_EPOCH=1700000000

here=$(cd "$(dirname "$0")" && pwd)
mirror=$here/../../.ci/mirror
suite=bookworm
arch=$(dpkg --print-architecture)
[ $# -ge 1 ] || { echo "usage: layouts.sh OUT [APP...]" >&2; exit 2; }
out=$1; shift
[ $# -gt 0 ] || set -- nginx postgres redis
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9>"$out/.lock"
flock 9
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

packages() {
  case $1 in
  nginx) echo nginx-light ;;
  postgres) echo postgresql-15,dash,coreutils ;;
  redis) echo redis-server ;;
  *) echo "no application $1: want nginx, postgres or redis" >&2; exit 2 ;;
  esac
}

# what of the packages is left out, besides documentation
surplus() {
  case $1 in
  postgres) echo 'usr/lib/*/libLLVM* usr/lib/*/libz3* usr/lib/postgresql/*/lib/bitcode usr/lib/postgresql/*/lib/llvmjit* usr/lib/*/perl* usr/lib/*/libperl* usr/share/perl* usr/bin/perl* usr/share/i18n' ;;
  esac
}

sources() {
  echo "deb $("$mirror" $suite) $suite main"
  [ "$1" = 1 ] && return
  echo "deb $("$mirror" $suite-updates) $suite-updates main"
  echo "deb $("$mirror" $suite-security) $suite-security main"
}

# settings of the image's configuration
config() {
  case $1 in
  nginx) echo '"Entrypoint":["/usr/sbin/nginx"],"Cmd":["-c","/etc/app/nginx.conf"],"ExposedPorts":{"8080/tcp":{}},"StopSignal":"SIGQUIT"' ;;
  postgres) echo '"Entrypoint":["/etc/app/start"],"Env":["PGDATA=/data","LC_ALL=C"],"ExposedPorts":{"5432/tcp":{}},"Volumes":{"/data":{}},"StopSignal":"SIGINT"' ;;
  redis) echo '"Entrypoint":["/usr/bin/redis-server"],"Cmd":["/etc/app/redis.conf"],"ExposedPorts":{"6379/tcp":{}},"Volumes":{"/data":{}}' ;;
  esac
}

# blob LAYOUT FILE moves FILE into the layout and prints what a descriptor says of it.
blob() {
  local sum size
  sum=$(sha256sum "$2" | cut -d' ' -f1) size=$(stat -c %s "$2")
  mv "$2" "$1/blobs/sha256/$sum"
  echo "\"digest\":\"sha256:$sum\",\"size\":$size"
}
digest() { sed 's/.*"digest":"\([^"]*\)".*/\1/'; }

# layout APP N
layout() {
  local to=$out/$1-$2 l=$work/$1-$2 mode=root base files config manifest
  [ ! -e "$to/index.json" ] || return 0
  [ "$(id -u)" = 0 ] || mode=unshare
  echo "$1-$2"
  mkdir -p "$l/blobs/sha256"
  sources "$2" > "$work/sources"
  # shellcheck disable=SC2016
  mmdebstrap --quiet --mode=$mode --format=tar --variant=extract --include="$(packages "$1")" \
    --aptopt='Apt::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Retries "3"' \
    --extract-hook='APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-cache policy '"$(packages "$1" | cut -d, -f1)"' | sed -n "s/^ *Candidate: //p" > '"$work/version" \
    --extract-hook='cd "$1" && rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/bug '"$(surplus "$1")" \
    "$suite" "$work/base.tar" - < "$work/sources"
  tar --create --file="$work/files.tar" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$here/files/$1" .
  base=$(blob "$l" "$work/base.tar")
  files=$(blob "$l" "$work/files.tar")
  echo "{\"architecture\":\"$arch\",\"os\":\"linux\",\"config\":{\"User\":\"1000:1000\",$(config "$1")},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"$(echo "$base" | digest)\",\"$(echo "$files" | digest)\"]}}" > "$work/config"
  config=$(blob "$l" "$work/config")
  local layer='"mediaType":"application/vnd.oci.image.layer.v1.tar"'
  echo "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",$config},\"layers\":[{$layer,$base},{$layer,$files}]}" > "$work/manifest"
  manifest=$(blob "$l" "$work/manifest")
  echo '{"imageLayoutVersion":"1.0.0"}' > "$l/oci-layout"
  # 5:7.0.15-1~deb12u10 becomes 7.0.15.10: upstream's version and Debian's last number.
  sed 's/^[0-9]*://; s/-.*u\([0-9]*\)$/.\1/' "$work/version" > "$l/version"
  echo "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",$manifest}]}" > "$l/index.json"
  rm -rf "$to"
  mv "$l" "$to"
}

for app in "$@"; do
  packages "$app" >/dev/null
  for n in 1 2; do layout "$app" $n; done
done
