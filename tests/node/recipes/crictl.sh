#!/bin/bash
# crictl as a Go tool module.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
version=v1.37.0
tool=sigs.k8s.io/cri-tools/cmd/crictl

mkdir -p "$WORK/src" && cd "$WORK/src"
go mod init recipe
go get -tool "$tool@$version"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$OUT/bin/crictl" "$tool"
