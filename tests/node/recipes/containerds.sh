#!/bin/bash
# The containerds that the tests know besides the nodes' own, each in a directory with its version as name (1.6.20): the
# program, and where Debian has it the package as containerd.deb. From Debian: bookworm, trixie and testing; from its Go
# module: a newer one, with shim and ctr.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
suites=(bookworm trixie forky)
module=github.com/containerd/containerd/v2
release=v2.4.2

version_of() { "$1" --version | grep --only-matching --extended-regexp '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1; }

for suite in "${suites[@]}"; do
    mkdir "$WORK/$suite" "$WORK/$suite-root"
    # Nothing is installed: mmdebstrap only knows where this machine has its packages from.
    mmdebstrap --variant=custom --aptopt='Acquire::Retries "5"' --aptopt='Acquire::Check-Valid-Until "false"' \
        --customize-hook="cd '$WORK/$suite' && APT_CONFIG=\"\$MMDEBSTRAP_APT_CONFIG\" apt-get --quiet download containerd" \
        "$suite" "$WORK/$suite-none"
    dpkg-deb --extract "$WORK/$suite"/containerd_*.deb "$WORK/$suite-root"
    made=$OUT/$(version_of "$WORK/$suite-root/usr/bin/containerd")
    install -D -m 0755 -t "$made" "$WORK/$suite-root/usr/bin/containerd"
    mv "$WORK/$suite"/containerd_*.deb "$made/containerd.deb"
done

mkdir -p "$WORK/src" && cd "$WORK/src"
go mod init recipe
programs=("$module"/cmd/{containerd,containerd-shim-runc-v2,ctr})
go get -tool "${programs[@]/%/@$release}"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X $module/version.Version=$release" -o "$OUT/${release#v}/" "${programs[@]}"
