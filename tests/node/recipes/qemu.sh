#!/bin/bash
# qemu's user emulation of arm64, linked statically, from testing whatever this machine runs: the older the fewer system
# calls of systemd's it knows.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
mkdir -p "$WORK/deb" "$OUT/bin"
# Nothing is installed: mmdebstrap only knows where this machine has its packages from.
mmdebstrap --variant=custom --aptopt='Acquire::Retries "5"' --aptopt='Acquire::Check-Valid-Until "false"' \
    --customize-hook="cd '$WORK/deb' && APT_CONFIG=\"\$MMDEBSTRAP_APT_CONFIG\" apt-get --quiet download qemu-user" \
    forky "$WORK/none"
dpkg-deb --fsys-tarfile "$WORK"/deb/*.deb | tar --extract --to-stdout ./usr/bin/qemu-aarch64 >"$OUT/bin/qemu-aarch64"
chmod 0755 "$OUT/bin/qemu-aarch64"
"$OUT/bin/qemu-aarch64" --version
