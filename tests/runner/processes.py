"""Commands of the stages as processes: each in a session of its own, and ended whole."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import BinaryIO


def start(
    argv: Sequence[str], environment: Mapping[str, str], log: BinaryIO | None = None
) -> subprocess.Popen[bytes]:
    """Begin a command; what it writes goes to `log`, or where our own output goes."""
    return subprocess.Popen(
        argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log and subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask the commands' whole groups to end, so that tests can clean up, then make them."""
    for sign, patience_s in ((signal.SIGINT, 60.0), (signal.SIGKILL, 10.0)):
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, sign)
        until = time.monotonic() + patience_s
        for process in processes:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue
