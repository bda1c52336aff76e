#!/bin/bash
# A root with little more than promtool, which checks the metrics and the alert rules.
# Called with OUT (empty directory to fill), WORK (scratch) and SUITE (trixie) in the environment.
set -euo pipefail
mmdebstrap --variant=extract --include=prometheus,bash,coreutils --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Retries "5"' --dpkgopt='path-exclude=/usr/share/*' "$SUITE" "$OUT"
rm -r "$OUT/usr/bin/prometheus" "$OUT"/var/lib/apt/lists/*
mkdir -p "$OUT"/{proc,sys,dev,run,tmp,root}
