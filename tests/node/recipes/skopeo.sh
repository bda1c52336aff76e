#!/bin/bash
# skopeo as Debian has it, with the libraries that it needs, to be run by their loader: it makes archives of images.
# Called with OUT (empty directory to fill), WORK (scratch) in the environment.
set -euo pipefail
mmdebstrap --variant=extract --include=skopeo --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Retries "5"' --dpkgopt='path-exclude=/usr/share/*' trixie "$WORK/root"
mkdir "$OUT/lib"
cp "$WORK/root/usr/bin/skopeo" "$OUT/"
cp -L "$WORK"/root/usr/lib/*-linux-gnu/*.so* "$OUT/lib/"
