"""The .sha256sum that upstream publishes beside an archive."""

from __future__ import annotations

import re

from agent.artifacts.child.refused import RefusedError
from agent.artifacts.refusals import Refusal

CAP = 1024
"""Bytes; one line has 64 digits and a file's name."""

_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9._+-]{1,255})\r?\n?")


def parse(content: bytes, archive: str) -> str:
    """The sha256 of `archive`. Raises RefusedError."""
    if len(content) > CAP:
        raise RefusedError(Refusal.CHECKSUM_LENGTH, f"more than {CAP} bytes")
    found = _LINE.fullmatch(content.decode(errors="backslashreplace"))
    if found is None:
        raise RefusedError(Refusal.CHECKSUM_FORM, f"it begins with {content[:80]!r}")
    if found[2] != archive:
        raise RefusedError(Refusal.CHECKSUM_NAME, f"it names {found[2]}, and {archive} was asked for")
    return found[1]
