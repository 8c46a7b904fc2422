#!/bin/sh
# Publishes one release from a build system: no terminal, no question, one exit code.
#
#   SITE            the site's directory (made once, with: twinkeel-server init SITE)
#   PASSPHRASE      passphrase of the release key, from the build system's secrets
#   CHANNEL         channel to publish in; edge if unset
#   COMPATIBLE      machines that the image is made for
#   VERSION         1 to 4 dotted integers, growing; the date and a counter do well
#   ROOT_IMAGE      file with the root image
#   BOOT_IMAGE      file with the boot image, if there is one
#   RELEASE_KEY     file of the release key, if it does not lie in the site
#   SUMMARY         file that gets the result as JSON; release.json if unset
#
# Running it again after a failure, or twice by mistake, does no harm: payloads that are
# finished are taken up, and a release that is published already is no error.
set -eu

: "${SITE:?}" "${PASSPHRASE:?}" "${COMPATIBLE:?}" "${VERSION:?}" "${ROOT_IMAGE:?}"
CHANNEL=${CHANNEL:-edge}
SUMMARY=${SUMMARY:-release.json}

# The passphrase goes through a file that only this user reads and that does not outlive
# the job: command lines are seen by everybody on the machine.
secrets=$(mktemp -d)
trap 'rm -rf "$secrets"' EXIT INT TERM
printf '%s\n' "$PASSPHRASE" >"$secrets/passphrase"
export TWINKEEL_PASSPHRASE_FILE="$secrets/passphrase"
unset PASSPHRASE

set -- --channel "$CHANNEL" --compatible "$COMPATIBLE" --version "$VERSION" \
	--image "root=$ROOT_IMAGE" --deltas 3
if [ -n "${BOOT_IMAGE:-}" ]; then
	set -- "$@" --image "boot=$BOOT_IMAGE"
fi
if [ -n "${RELEASE_KEY:-}" ]; then
	set -- "$@" --key "$RELEASE_KEY"
fi

status=0
twinkeel-server publish "$SITE" "$@" --json >"$secrets/result" || status=$?
case $status in
0)
	cp "$secrets/result" "$SUMMARY"
	;;
3)
	echo "release $VERSION is published already" >&2
	;;
7)
	echo "another job publishes into $SITE; let the build system try again" >&2
	exit 1
	;;
*)
	exit "$status"
	;;
esac

# The last word belongs to the client that hosts run.
twinkeel-server verify "$SITE" --quick --quiet
