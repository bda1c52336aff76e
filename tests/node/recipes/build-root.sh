#!/bin/bash
# The root in which the .deb is built and checked: SUITE (trixie) with the package's build dependencies and lintian,
# ruff and mypy from Debian, so that every machine lints and builds with the same versions.
# Called with OUT (empty directory to fill), WORK (scratch) and SUITE in the environment.
set -euo pipefail
packages=(
    build-essential debhelper dh-python dh-sequence-python3 devscripts lintian fakeroot pybuild-plugin-pyproject
    python3-all python3-setuptools python3-docutils python3-shtab python3-pytest python3-hypothesis python3-coverage
    python3-grpcio python3-protobuf python3-pystemd python3-watchdog python3-structlog python3-requests
    python3-nftables python3-tomlkit python3-yaml python3-jsonschema python3-prometheus-client
    protobuf-compiler protobuf-compiler-grpc mypy python3-typeshed shellcheck git systemd man-db groff-base iproute2 nftables
    skopeo zstd
)
mmdebstrap --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "5"' \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/*' \
    "$SUITE" "$OUT"
