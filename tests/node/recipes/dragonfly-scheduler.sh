#!/bin/bash
# Dragonfly's own scheduler 2.4.3, as a Go module built within a copy of itself.
#
# It asks for a version of its api that no module proxy serves; the next one that is served takes its place, and the
# grpc that one needs. Every module's sum is checked: the scheduler's and those two against the ones here, all others
# against the scheduler's own go.sum. That has to be complete: -mod=readonly adds nothing to it.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
module=d7y.io/dragonfly/v2
version=v2.4.3

mkdir "$WORK/fetch" && cd "$WORK/fetch"
go mod init fetch
go mod edit -require="$module@$version"
cat >go.sum <<SUMS
$module $version h1:bpPLEt+ctaT0YChyaW2GGa4PSa273I0gLd9/77TS7nA=
$module $version/go.mod h1:bz4Xo0P9wRO/KWhSghrLy/qRPsX5WX1c70Eb69Dnhtc=
SUMS
go mod download "$module"
cp -r "$(go list -m -f '{{.Dir}}' "$module")" "$WORK/dragonfly"
chmod -R u+w "$WORK/dragonfly"
cd "$WORK/dragonfly"
go mod edit -require=d7y.io/api/v2@v2.2.28 -require=google.golang.org/grpc@v1.79.3
cat >>go.sum <<SUMS
d7y.io/api/v2 v2.2.28 h1:cSkW6VKhNn+noMZGJJ4/H0fECrp+sLLo19tep/Ib5CQ=
d7y.io/api/v2 v2.2.28/go.mod h1:s/G9W8VxUkpsRqqzTuctQmLRb8srFbUUTOXF7Ms3khc=
google.golang.org/grpc v1.79.3 h1:sybAEdRIEtvcD68Gx7dmnwjZKlyfuc61Dyo9pGXXkKE=
google.golang.org/grpc v1.79.3/go.mod h1:KmT0Kjez+0dde/v2j9vzwoAScgEPx/Bw1CYChhHLrHQ=
SUMS
CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w" -o "$OUT/bin/dragonfly-scheduler" ./cmd/scheduler
