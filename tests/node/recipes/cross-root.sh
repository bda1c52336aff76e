#!/bin/bash
# A root of trixie with Debian's Rust compiler and C cross compilers for arm64: the only ones that packages bring with a
# standard library for it.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
packages=(build-essential crossbuild-essential-arm64 rustc cargo libstd-rust-dev:arm64 cmake pkg-config perl make)
mmdebstrap --architectures=amd64,arm64 --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "5"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --customize-hook='rm -rf "$1"/etc/resolv.conf "$1"/var/lib/apt/lists/*' --customize-hook='mkdir "$1/src"' \
    trixie "$OUT"
