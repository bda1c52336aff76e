#!/bin/bash
# A client of containerd that pulls as nerdctl does (see ../programs/puller.go), which itself cannot be had as a module.
# Called with OUT (empty directory to fill), WORK (scratch) and PULLER_GO (its source) in the environment.
set -euo pipefail
module=github.com/containerd/containerd/v2
release=v2.4.2

mkdir -p "$WORK/src" && cd "$WORK/src"
go mod init recipe
cp "$PULLER_GO" main.go
go get "$module@$release"
go mod tidy
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$OUT/bin/puller" .
