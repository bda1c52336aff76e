#!/bin/bash
# The images that nodes run, as OCI layouts (see ../images.py for what each is for): in layout/ those for a registry,
# plain and RAFS v6; in pause/ the sandbox image alone, as `ctr images import` wants it.
# Called with OUT (empty directory to fill), WORK (scratch), NYDUS_IMAGE (the converter), READER_C (the reader's
# source) and LAYOUT_PY (the program that writes the layout) in the environment.
set -euo pipefail
suite=trixie
files=600
bytes=204800

mmdebstrap --variant=minbase --include=python3 --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "5"' \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/etc/resolv.conf' "$suite" "$WORK/python"

mkdir -p "$WORK/pause" "$WORK/reader/data"
gcc -O2 -static -o "$WORK/pause/reader" "$READER_C"
cp "$WORK/pause/reader" "$WORK/reader/reader"
"$WORK/reader/reader" make "$WORK/reader/data" "$files" "$bytes"

for name in python reader pause; do
    tar --create --file "$WORK/$name.tar" --directory "$WORK/$name" --sort=name --mtime=@0 --numeric-owner .
done
rafs() { # NAME COMPRESSOR SOURCE
    mkdir "$WORK/$1"
    "$NYDUS_IMAGE" create --type dir-rafs --fs-version 6 --compressor "$2" --repeatable \
        --bootstrap "$WORK/$1/bootstrap" --blob "$WORK/$1/blob" --output-json "$WORK/$1/result.json" "$WORK/$3"
    "$NYDUS_IMAGE" check "$WORK/$1/bootstrap"
}
rafs python-nydus zstd python
rafs reader-nydus zstd reader
rafs reader-raw-nydus none reader

python3 "$LAYOUT_PY" plain "$OUT/layout" python "$WORK/python.tar" -- python3 -c 'print("hello from python")'
python3 "$LAYOUT_PY" plain "$OUT/layout" reader "$WORK/reader.tar" -- /reader read /data "$files" 0
python3 "$LAYOUT_PY" plain "$OUT/pause" registry.k8s.io/pause:3.8 "$WORK/pause.tar" -- /reader pause
python3 "$LAYOUT_PY" nydus "$OUT/layout" python-nydus "$WORK/python-nydus" -- python3 -c 'print("hello from python")'
python3 "$LAYOUT_PY" nydus "$OUT/layout" reader-nydus "$WORK/reader-nydus" -- /reader read /data "$files" 0
python3 "$LAYOUT_PY" nydus "$OUT/layout" reader-raw-nydus "$WORK/reader-raw-nydus" -- /reader read /data "$files" 0
