#!/bin/bash
# The Python environment of the tests that run on the machine itself: pytest as in trixie, and ruff.
# It is made under another name than it gets, so its programs are started as `bin/python3 -m NAME`.
# Called with OUT (empty directory to fill) and WORK (scratch) in the environment.
set -euo pipefail
/usr/bin/python3 -m venv "$OUT"
"$OUT/bin/python3" -m pip install --quiet --disable-pip-version-check \
    ruff==0.14.6 pytest==8.3.5 pluggy==1.5.0 iniconfig==2.1.0 packaging==25.0
