"""A program that runs for as long as it needs, whose words and progress are followed: skopeo, nydusify."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence

from agent.adapters.process import Companion, companion

_STEP_S = 0.2
_LONGEST_S = 24 * 3600.0
_KEPT = 8192
_LINE, _LINES = 500, 6


def follow(
    argv: Sequence[str],
    tell: Callable[[int, str], None],
    *,
    silence_s: float,
    environment: Mapping[str, str],
) -> tuple[int, list[str]]:  # fmt: skip
    """Run a program to its end: its exit code, and its last lines. `tell` hears how many bytes it has read so
    far, and its last line. One that neither reads nor writes nor says anything for `silence_s` is killed.
    Raises ProcessError where it cannot be run."""
    reader, writer = os.pipe()
    try:
        with companion(argv, writer, environment=environment) as child, child.killed_after(_LONGEST_S):
            return _followed(child, reader, tell, silence_s)
    finally:
        os.close(reader)
        os.close(writer)


def _followed(
    child: Companion, reader: int, tell: Callable[[int, str], None], silence_s: float
) -> tuple[int, list[str]]:  # fmt: skip
    said, seen, moved = b"", (0, 0), time.monotonic()
    while True:
        code = child.code
        came = _read(reader, _STEP_S if code is None else 0)
        said = (said + came)[-_KEPT:]
        lines = [line.strip()[:_LINE] for line in said.decode(errors="replace").splitlines() if line.strip()][
            -_LINES:
        ]
        if code is not None:
            return code, lines
        now = _bytes(child.pid)
        if came or now != seen:
            seen, moved = now, time.monotonic()
            tell(now[0], lines[-1] if lines else "")
        elif time.monotonic() - moved > silence_s:
            child.kill()
            return -9, [*lines, f"it did nothing for {silence_s:.0f} s"]


def _read(reader: int, seconds: float) -> bytes:
    """What came within so long; all that is kept of it, where it ends."""
    if not select.select([reader], [], [], seconds)[0]:
        return b""
    return os.read(reader, 1 << 16)


def _bytes(pid: int) -> tuple[int, int]:
    """Read and written so far, by the kernel's count (proc_pid_io(5)); sockets count too."""
    with (
        contextlib.suppress(OSError, ValueError, KeyError),
        open(f"/proc/{pid}/io", encoding="ascii") as file,
    ):
        counts = dict(line.split(": ") for line in file.read(4096).splitlines())
        return int(counts["rchar"]), int(counts["wchar"])
    return 0, 0
