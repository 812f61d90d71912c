#!/bin/sh
# Makes a root with Debian 13's Node and oneDNN 3.x, for the tests of the version 3 binding on a machine whose own oneDNN is
# 2.6. Needs root (debootstrap, chroot), the network, and about 400 MB. Takes a minute; does nothing if the root is there.
#
#   scripts/make-trixie.sh [folder]        default: ~/.cache/lockstep/trixie, where the tests look; another: LOCKSTEP_TRIXIE
set -eu
folder="${1:-${LOCKSTEP_TRIXIE:-${XDG_CACHE_HOME:-$HOME/.cache}/lockstep/trixie}}"
if [ -e "$folder/.lockstep-ready" ]; then
  echo "$folder is there."
  exit 0
fi
if [ "$(id -u)" != 0 ]; then
  echo "make-trixie.sh: debootstrap needs root. help: run it with sudo." >&2
  exit 1
fi
if ! command -v debootstrap >/dev/null; then
  echo "make-trixie.sh: debootstrap is not installed. help: apt-get install debootstrap" >&2
  exit 1
fi
mkdir -p "$(dirname "$folder")"
# Made beside its place and moved there when it is complete, so that a root that exists works.
partial="$folder.partial"
rm -rf "$partial"
debootstrap --variant=minbase --include=libdnnl3.6,libgomp1,nodejs,ca-certificates trixie "$partial"
touch "$partial/.lockstep-ready"
mv "$partial" "$folder"
chroot "$folder" node -e 'console.log("Node", process.version)'
echo "$folder is ready."
