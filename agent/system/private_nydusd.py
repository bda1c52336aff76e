"""A nydusd of our own for one image, in a directory ("room") that has `mount` and gets `api.sock`.

The mount is made in a namespace that only this nydusd is in, and is read through /proc/PID/root. When nydusd
ends, for whatever reason, the namespace and with it the mount are gone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.errors import AgentError, NydusdError
from agent.system.nydusd import NydusdApi
from agent.system.process import Companion, companion, last_lines, last_written

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


_MOUNT_S, _READ_S = 30.0, 3600.0


@contextmanager
def mounted(nydusd: str, bootstrap: Path, blobs: Path, directory: Path) -> Iterator[str]:
    """Where the image can be read, within the block; `directory` is made for it. Raises NydusdError
    (NNA1423), ProcessError and OSError."""
    for place in (directory, directory / "mount", directory / "cache"):
        place.mkdir(mode=0o700)
    config = {
        "device": {
            "backend": {"type": "localfs", "config": {"dir": str(blobs)}},
            "cache": {"type": "blobcache", "config": {"work_dir": str(directory / "cache")}},
        },
        "mode": "direct",
        "digest_validate": False,
        "enable_xattr": False,  # the metadata itself must say that there are such
        "fs_prefetch": {"enable": False},
    }
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    image = ("--config", f"{directory}/config.json", "--bootstrap", str(bootstrap))
    argv = command([nydusd], str(directory), *image, threads=4)
    log = directory / "log"

    def refusal(cause: str) -> NydusdError:
        seen = last_lines(last_written(str(log)))
        return NydusdError("NNA1423", "a private nydusd could not mount the image", cause=cause, seen=seen)

    with open(log, "wb") as output, companion(argv, output.fileno()) as child, child.killed_after(_READ_S):
        yield wait_for_mount(child, str(directory), time.monotonic() + _MOUNT_S, refusal).top
