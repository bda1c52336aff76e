#!/bin/bash
# Python parts of the small scheduler that a real dfdaemon needs to start (see ../parts/scheduler.py), for the node's
# Python 3.13: PyPI's dragonfly-api (ready stubs) and grpcio-health-checking.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
python3 -m pip install --quiet --target "$OUT/site" --python-version 3.13 --only-binary=:all: \
    dragonfly-api grpcio-health-checking
