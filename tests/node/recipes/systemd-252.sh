#!/bin/bash
# A root with bookworm's systemd 252, the oldest that our units must be valid on.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
mmdebstrap --variant=minbase --include=systemd,dbus --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Retries "5"' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/*' bookworm "$OUT"
