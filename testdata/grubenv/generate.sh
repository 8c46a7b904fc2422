#!/bin/sh
# Writes the vectors of this directory again, with grub-editenv (Debian: grub-common).
# NAME.env is a block; NAME.list is what `grub-editenv list` reads from it, and is not
# there if grub-editenv refuses the block. "damaged" ones hold bytes that GRUB ignores.
set -eu
cd "$(dirname "$0")"
rm -f ./*.env ./*.list
list() { if ! grub-editenv "$1.env" list > "$1.list" 2>/dev/null; then rm "$1.list"; fi; }
block() { # NAME: the lines on standard input, padded
  { printf '# GRUB Environment Block\n'; cat; } > "$1.env"
  printf '%*s' $((1024 - $(stat -c %s "$1.env"))) '' | tr ' ' '#' >> "$1.env"
  list "$1"
}
grub-editenv empty.env create; list empty
grub-editenv distribution.env create
grub-editenv distribution.env set saved_entry=0 'kernelopts=root=/dev/sda1 ro' next_entry=; list distribution
grub-editenv escapes.env create
grub-editenv escapes.env set 'back=a\b\\c' 'lines=one
two' 'equals=a=b' 'hash=#1'; list escapes
printf 'a=1\n# a remark\nb=2\na=3\n' | block twice
printf '# only a remark \\\n that goes on\nx=y\n' | block remark
printf 'name\nwith newline=v\n\n=nameless\n' | block odd-names
printf 'a=1\nb=cut' | block damaged-unterminated
printf 'a=1\nno equals sign' | block damaged-no-equals
printf 'a=1\n' | block damaged-after-padding
printf 'b=2\n' | dd of=damaged-after-padding.env bs=1 seek=500 conv=notrunc status=none; list damaged-after-padding
printf 'a=1\n' | block refused-signature
printf 'x' | dd of=refused-signature.env bs=1 seek=3 conv=notrunc status=none; list refused-signature
