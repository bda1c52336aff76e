#!/bin/bash
# A reader of kind's configuration and of Kubernetes' Service (see ../programs/dragonfly_files.go), from their own Go
# modules. kind's decoder is internal to its module, so the reader is built as a command within a copy of that.
# Called with OUT (empty directory to fill), WORK (scratch) and PROGRAM_GO (its source) in the environment.
set -euo pipefail
kind=sigs.k8s.io/kind@v0.33.0
api=k8s.io/api@v0.37.0

mkdir "$WORK/fetch" && cd "$WORK/fetch"
go mod init fetch
go get "$kind"
cp -r "$(go list -m -f '{{.Dir}}' "${kind%@*}")" "$WORK/kind"
chmod -R u+w "$WORK/kind"
mkdir "$WORK/kind/pkg/dragonflyfiles"
cp "$PROGRAM_GO" "$WORK/kind/pkg/dragonflyfiles/main.go"
cd "$WORK/kind"
go get "$api"
go mod tidy
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$OUT/bin/dragonfly-files" ./pkg/dragonflyfiles
