"""A private nydusd that mounts an image whose blobs are on this machine's disk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.adapters import private_nydusd
from agent.adapters.process import companion, last_written
from agent.errors import NydusdError

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
    argv = private_nydusd.command([nydusd], str(directory), *image, threads=4)
    log = directory / "log"

    def refusal(cause: str) -> NydusdError:
        seen = tuple(line[:300] for line in last_written(str(log))[-4:])
        return NydusdError("NNA1423", "a private nydusd could not mount the image", cause=cause, seen=seen)

    with open(log, "wb") as output, companion(argv, output.fileno()) as child, child.killed_after(_READ_S):
        yield private_nydusd.wait_for_mount(child, str(directory), time.monotonic() + _MOUNT_S, refusal).top
