"""What a process runs, as the kernel knows it: the file itself, whatever lies at its path by now
(proc_pid_exe(5)).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from agent.adapters.files import digest_of
from agent.errors import FileError, ProcessError
from agent.ports_processes import RunningProgram

_DELETED = " (deleted)"


def seen(pid: int) -> RunningProgram | None:
    """See ports.Processes.program."""
    link = _look(pid, os.readlink)
    if link is None:
        return None
    path = link.removesuffix(_DELETED)
    return RunningProgram(path, replaced=path != link)


def sha256(pid: int) -> str | None:
    """See ports.Processes.program_sha256."""
    return _look(pid, _digest)


def _look(pid: int, how: Callable[[str], str]) -> str | None:
    """None where the process has ended. Raises ProcessError where it lives and may not be looked at."""
    try:
        return how(f"/proc/{pid}/exe")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except (OSError, FileError) as error:
        cause = error.cause if isinstance(error, FileError) else error.strerror or str(error)
        raise ProcessError("NNA0221", f"cannot see what process {pid} runs", cause=cause) from error


def _digest(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return digest_of(descriptor, path)
    finally:
        os.close(descriptor)
