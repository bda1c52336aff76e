"""One gzip member (RFC 1952), unpacked as it comes, with an eye on how much it becomes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from agent.artifacts.child.refused import RefusedError
from agent.artifacts.fetching import Limits
from agent.artifacts.refusals import Refusal

_GZIP = 16 + zlib.MAX_WBITS  # zlib's own reader of the gzip format, which checks CRC and length
_STEP = 1 << 20
"""Bytes that are unpacked at once, whatever a small input would become."""
_MAGIC = b"\x1f\x8b"


class Gunzip:
    """Fed with the file's bytes. Raises RefusedError."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._packed, self._unpacked = 0, 0
        self._start = b""
        self._reader = zlib.decompressobj(_GZIP)
        self._after = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What the bytes unpack to."""
        if len(self._start) < len(_MAGIC):
            self._start += chunk[:64]
            _need_gzip(self._start)
        self._packed += len(chunk)
        if self._ended():
            self._look_behind(chunk)
            return
        rest, unpacked = chunk, b""
        while rest or len(unpacked) == _STEP:  # a full step may have left some of its output behind
            unpacked = self._step(rest)
            rest = self._reader.unconsumed_tail
            self._unpacked += len(unpacked)
            self._check_amount()
            if unpacked:
                yield unpacked
            if self._ended():
                self._look_behind(self._reader.unused_data)
                return

    def end(self) -> None:
        """Nothing more comes."""
        if not self._ended():
            raise RefusedError(Refusal.GZIP_CUT, f"after {self._packed} bytes")
        if self._after:
            self._refuse_what_follows()

    def _ended(self) -> bool:
        return self._reader.eof

    def _step(self, rest: bytes) -> bytes:
        try:
            return self._reader.decompress(rest, _STEP)
        except zlib.error as error:
            wrong_check = "incorrect data check" in str(error) or "incorrect length check" in str(error)
            refusal = Refusal.GZIP_CHECK if wrong_check else Refusal.GZIP_DAMAGED
            raise RefusedError(refusal, f"near byte {self._packed}: {error}") from None

    def _check_amount(self) -> None:
        if self._unpacked > self._limits.unpacked:
            raise RefusedError(Refusal.GZIP_SIZE, f"more than {self._limits.unpacked} bytes")
        if self._unpacked > self._limits.ratio_from and self._unpacked > self._limits.ratio * self._packed:
            raise RefusedError(Refusal.GZIP_RATIO, f"{self._unpacked} bytes from {self._packed}")

    def _look_behind(self, chunk: bytes) -> None:
        self._after += chunk[:64]
        if len(self._after) >= len(_MAGIC):
            self._refuse_what_follows()

    def _refuse_what_follows(self) -> None:
        second = self._after.startswith(_MAGIC)
        raise RefusedError(Refusal.GZIP_SECOND if second else Refusal.GZIP_TRAILING, f"it begins with {self._after!r}")


def _need_gzip(start: bytes) -> None:
    if start[: len(_MAGIC)] == _MAGIC[: len(start)]:
        return
    page = start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<"))
    raise RefusedError(Refusal.PAGE if page else Refusal.NOT_GZIP, f"it begins with {start!r}")
