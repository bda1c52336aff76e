"""The daemon's own answer on its unix socket, for where its file cannot be used."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from agent.adapters.http import PlainHttp
from agent.errors import HttpError

_DEADLINE_S = 1.0
_CAP = 1 << 20  # bytes; as for the file


def status(path: str) -> bytes:
    """What the daemon answers to /status. Raises HttpError.

    The directory is the daemon's, and root asks too: a link in it is not followed to somebody else's socket.
    """
    with _socket(path) as fd:
        answer = PlainHttp().get(
            "http://localhost/status",
            deadline_s=_DEADLINE_S,
            body_cap=_CAP,
            unix_socket=f"/proc/self/fd/{fd}",
        )
    if answer.status != 200:
        raise HttpError("NNA0821", "the agent does not tell its status", cause=f"HTTP {answer.status}")
    return answer.body


@contextlib.contextmanager
def _socket(path: str) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise HttpError("NNA0821", f"no answer from {path}", cause=error.strerror or str(error)) from error
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise HttpError("NNA0821", f"no answer from {path}", cause="is not a socket")
        yield fd
    finally:
        os.close(fd)
