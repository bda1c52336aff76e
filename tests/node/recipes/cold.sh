#!/bin/bash
# Images for long measurements, as one OCI layout: two nydus images of many small files each, every file one read from
# the backend, and no content that they share.
# Called with OUT (empty directory to fill), WORK (scratch), NYDUS_IMAGE (the converter), READER_C (the reader's
# source) and LAYOUT_PY (the program that writes the layout) in the environment.
set -euo pipefail
files=6000

gcc -O2 -static -o "$WORK/reader" "$READER_C"
bytes=16384
for name in cold-a cold-b; do
    mkdir -p "$WORK/$name/data" "$WORK/$name-nydus"
    cp "$WORK/reader" "$WORK/$name/reader"
    "$WORK/reader" make "$WORK/$name/data" "$files" "$bytes"
    "$NYDUS_IMAGE" create --type dir-rafs --fs-version 6 --compressor zstd --repeatable \
        --bootstrap "$WORK/$name-nydus/bootstrap" --blob "$WORK/$name-nydus/blob" \
        --output-json "$WORK/$name-nydus/result.json" "$WORK/$name"
    python3 "$LAYOUT_PY" nydus "$OUT/layout" "$name-nydus" "$WORK/$name-nydus" -- /reader read /data "$files" 0
    bytes=$((bytes + 64)) # else both would hold the same data
done
