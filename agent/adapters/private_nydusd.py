"""A nydusd of our own for one image, in a directory ("room") that has `mount` and gets `api.sock`.

The mount is made in a namespace that only this nydusd is in, and is read through /proc/PID/root. When nydusd
ends, for whatever reason, the namespace and with it the mount are gone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.adapters.nydusd import NydusdApi
from agent.adapters.process import Companion
from agent.errors import AgentError, NydusdError

_STEP_S = 0.05


class Mounted(NamedTuple):
    """A mount that is there."""

    version: str
    """nydusd's own word."""
    top: str
    """Where this process reads it."""


def socket_of(room: str) -> str:
    """Where it answers."""
    return f"{room}/api.sock"


def command(nydusd: Sequence[str], room: str, *image: str, threads: int) -> list[str]:
    """Its command line; `nydusd` is the program and what is to run it, `image` are its options for one."""
    return [
        "unshare", "--mount", "--propagation", "private", "--", *nydusd, "fuse", *image, "--mountpoint",
        f"{room}/mount", "--apisock", socket_of(room), "--log-level", "warn", "--thread-num", str(threads),
    ]  # fmt: skip


def wait_for_mount(
    child: Companion, room: str, until: float, refusal: Callable[[str], AgentError]
) -> Mounted:
    """The mount once it is there, at most until then (CLOCK_MONOTONIC).

    Raises what `refusal` makes of the cause.
    """
    api, cause = NydusdApi(), ""
    while time.monotonic() < until and child.code is None:
        try:
            info = api.info(socket_of(room), deadline_s=2)
            top = f"/proc/{info.pid or child.pid}/root{room}/mount"
            if info.state == "RUNNING" and os.path.ismount(top):
                return Mounted(info.version, top)
            cause = f"its state is {info.state}"
        except NydusdError as error:
            cause = error.cause
        time.sleep(_STEP_S)
    if child.code is not None:
        cause = f"it ended with exit code {child.code}"
    raise refusal(cause)
