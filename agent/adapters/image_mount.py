"""A converted image read back through a private nydusd: own mount namespace, so that no mount outlives it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence

from agent.adapters import private_nydusd
from agent.adapters.layer_files import length, members, walked
from agent.adapters.process import companion, last_written
from agent.errors import ConvertError, NydusdError, ProcessError
from agent.oci.tree import Member
from agent.ports_convert import LayerFile

_MOUNT_S, _READ_S = 30.0, 3600.0


class LayerReader:
    """The `Reader` port; its files are in `directory`."""

    def __init__(self, nydusd: str, directory: str) -> None:
        self._nydusd, self._directory = nydusd, directory

    def members(self, layer: LayerFile, *, content: bool = True) -> Iterator[Member]:
        """See ports_convert.Reader."""
        return members(layer, content=content)

    def length(self, layer: LayerFile) -> int:
        """See ports_convert.Reader."""
        return length(layer)

    def mounted(self, bootstrap: str, blobs: Sequence[str]) -> Iterator[Member]:
        """See ports_convert.Reader. The blobs are read as nydusd reads them, from this machine's disk."""
        room = os.path.join(self._directory, f"mounted-{os.path.basename(bootstrap)}")
        for name in ("", "mount", "cache"):
            os.mkdir(os.path.join(room, name), 0o700)
        directory = os.path.dirname(blobs[0]) if blobs else room
        with open(os.path.join(room, "config.json"), "w", encoding="utf-8") as file:
            json.dump(_config(directory, os.path.join(room, "cache")), file)
        image = ("--config", f"{room}/config.json", "--bootstrap", bootstrap)
        argv = private_nydusd.command([self._nydusd], room, *image, threads=4)
        try:
            with (
                open(os.path.join(room, "log"), "wb") as log,
                companion(argv, log.fileno()) as child,
                child.killed_after(_READ_S),
            ):
                until = time.monotonic() + _MOUNT_S
                mounted = private_nydusd.wait_for_mount(child, room, until, lambda cause: _refusal(room, cause))
                yield from walked(mounted.top)
        except (OSError, ProcessError, NydusdError) as error:
            cause = getattr(error, "cause", "") or str(error)
            raise ConvertError("NNA1425", "the converted image cannot be read back", cause=cause) from None


def _config(blobs: str, cache: str) -> dict[str, object]:
    """enable_xattr is off: the metadata itself must say that there are such."""
    return {
        "device": {
            "backend": {"type": "localfs", "config": {"dir": blobs}},
            "cache": {"type": "blobcache", "config": {"work_dir": cache}},
        },
        "mode": "direct",
        "digest_validate": False,
        "enable_xattr": False,
        "fs_prefetch": {"enable": False},
    }


def _refusal(room: str, cause: str) -> ConvertError:
    seen = tuple(line[:300] for line in last_written(f"{room}/log")[-4:])
    return ConvertError("NNA1425", "a private nydusd could not mount the image", cause=cause, seen=seen)
