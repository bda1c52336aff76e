#!/bin/bash
# containerd-nydus-grpc 0.16.1 as a Go tool module (`go install` refuses it: its go.mod has replace lines).
# A build made this way prints "unknown" as its version.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
version=v0.16.1
tool=github.com/containerd/nydus-snapshotter/cmd/containerd-nydus-grpc

mkdir -p "$WORK/src" && cd "$WORK/src"
go mod init recipe
go get -tool "$tool@$version"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/containerd/nydus-snapshotter/version.Version=$version" \
    -o "$OUT/bin/containerd-nydus-grpc" "$tool"
