"""The quick form of `make bench-switch` keeps its bounds: small counts, the same node, faults and readers."""

from __future__ import annotations

import subprocess
import sys

from tests.node import images, scene

_DEADLINE_S = 540
"""It takes about four minutes; a mirror that is never left makes reads wait for nydusd's own timeouts."""


def test_no_read_fails_and_every_bound_is_kept_in_the_quick_form_of_the_switch_bench() -> None:
    images.cold()
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.switch", "--quick"],
        cwd=scene.REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False, timeout=_DEADLINE_S,
    )  # fmt: skip
    print(done.stdout[-12000:])
    missed = [line for line in done.stdout.splitlines() if line.startswith("MISSED")]
    assert missed == []
    assert done.returncode == 0, done.stdout[-3000:]
