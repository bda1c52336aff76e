"""What an image's bootstrap says of its data: whether it is compressed, and with that whether wrong bytes are noticed.

RAFS v6 checks no digest when it reads, so only what does not decompress is found out. Zeros or another blob's bytes in
an uncompressed chunk reach the container, with us as without us; all that can be done is to name such images. An image
that was built with compression keeps single chunks uncompressed too, those that would not have shrunk: that is not in
its superblock, and is not told.
"""

from __future__ import annotations

import struct

from agent.apply import rungs_read
from agent.apply.rungs_runtime import View
from agent.errors import FileError, HttpError

# dragonflyoss/nydus, rafs/src/metadata/layout/v6.rs: the superblock of EROFS at 1024, its magic first; the extended
# one behind its 128 bytes, flags first. rafs/src/metadata/mod.rs: RafsSuperFlags.
_SUPERBLOCK_AT, _EXTENDED_AT = 1024, 1024 + 128
_MAGIC = 0xE0F5E1E2
_COMPRESSION_NONE = 0x1
_HEAD = _EXTENDED_AT + 8


def uncompressed(head: bytes) -> bool | None:
    """Whether the first bytes of a bootstrap are those of an image without compression; None: it is no RAFS v6."""
    if len(head) < _HEAD or struct.unpack_from("<I", head, _SUPERBLOCK_AT)[0] != _MAGIC:
        return None
    flags: int = struct.unpack_from("<Q", head, _EXTENDED_AT)[0]
    return bool(flags & _COMPRESSION_NONE)


def uncompressed_images(view: View) -> tuple[str, ...]:
    """Images in use that are not compressed, as HOST/REPOSITORY; what cannot be read is left out."""
    found: list[str] = []
    try:
        for mount in rungs_read.mounts(view.ports, view.config.snapshotter.root):
            head = view.ports.files.head(mount.bootstrap, _HEAD)
            if head is not None and uncompressed(head):
                found.append(mount.image)
    except (HttpError, FileError, ValueError):
        pass
    return tuple(dict.fromkeys(found))


def warning(images: tuple[str, ...]) -> str:
    """For the end of a rung's sentence; "" where there is nothing to warn of."""
    if not images:
        return ""
    named = ", ".join(images[:3]) + (f" and {len(images) - 3} more" if len(images) > 3 else "")
    return f"; not compressed, so that wrong bytes from the mirror would reach its containers unnoticed: {named}"
