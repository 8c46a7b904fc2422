#!/bin/sh
# Writes the vectors of this directory again, with sgdisk (Debian: gdisk) and dd.
# Each is a whole disk image, compressed. What a reader has to find is in partitions/gpt_test.go.
set -eu
cd "$(dirname "$0")"
export PATH="$PATH:/usr/sbin"
w=$(mktemp -d)
trap 'rm -r "$w"' EXIT
poke() { printf "$2" | dd of="$w/$3" bs=1 seek="$1" conv=notrunc status=none; }
put() { gzip -9 -n -c "$w/$1" > "$1.gz"; }

truncate -s 1M "$w/good.img"
sgdisk -a 8 -U 11111111-2222-3333-4444-555555555555 \
  -n 1:64:+16K -c 1:boot-a -u 1:AAAAAAAA-0001-0002-0003-00000000000A \
  -n 2:0:+16K -c 2:boot-b -u 2:AAAAAAAA-0001-0002-0003-00000000000B \
  -n 3:0:+64K -c 3:root-a -u 3:AAAAAAAA-0001-0002-0003-00000000001A \
  -n 5:0:+64K -c 5:'räksm/örgås π b' -u 5:AAAAAAAA-0001-0002-0003-00000000001B \
  "$w/good.img" > "$w/log"
put good.img
# The primary header's checksum is wrong: the backup counts.
cp "$w/good.img" "$w/primary-header-damaged.img"; poke 540 'x' primary-header-damaged.img; put primary-header-damaged.img
# A bit flipped in the primary entries.
cp "$w/good.img" "$w/primary-entries-damaged.img"; poke 1100 'x' primary-entries-damaged.img; put primary-entries-damaged.img
# Both damaged: nothing is found.
cp "$w/primary-header-damaged.img" "$w/both-damaged.img"; poke $((1048576 - 512 + 28)) 'x' both-damaged.img; put both-damaged.img
# Given an MBR table afterwards: the old GUID table means nothing.
cp "$w/good.img" "$w/mbr-over-gpt.img"; poke 450 '\203' mbr-over-gpt.img; put mbr-over-gpt.img
