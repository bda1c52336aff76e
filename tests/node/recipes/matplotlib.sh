#!/bin/bash
# matplotlib for the node's Python 3.13, as `nydus-agent bench --chart` finds it where Debian's package is not installed.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
python3 -m pip install --quiet --disable-pip-version-check --target "$OUT" --python-version 3.13 --only-binary=:all: \
    matplotlib==3.10.7
