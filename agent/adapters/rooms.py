"""Directories for the time of a run, and what becomes of those whose run was killed.

A room has a lock that its run holds: who gets it knows that the run is gone, and clears the room. The kernel lets go of
it however the run ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from agent.errors import ConvertError

_PREFIX = "nydus-agent-convert-"
_LOCK, _UPLOAD = "lock", "upload"
_MADE_S = 600.0
_LONGEST = 8192  # of the URL of an upload


class DiskRoom:
    """The `Room` port."""

    def __init__(self, path: str) -> None:
        self.path = path

    def note(self, session: str) -> None:
        """See ports_convert.Room."""
        name = os.path.join(self.path, _UPLOAD)
        if not session:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            return
        with open(f"{name}.new", "w", encoding="utf-8") as file:
            file.write(session)
        os.rename(f"{name}.new", name)


@contextmanager
def working_in(directory: str) -> Iterator[None]:
    """What the disk does not let us do meanwhile is a ConvertError (NNA1426). A reader of ours that has gone is not."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError) or (error.filename is None and error.errno is None):
            raise
        raise ConvertError("NNA1426", f"cannot work in {directory}", cause=error.strerror or str(error)) from None


class DiskRooms:
    """The `Rooms` port, in one directory, which others may write to as well (/var/tmp)."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @contextmanager
    def room(self, need: int) -> Iterator[DiskRoom]:
        """See ports_convert.Rooms."""
        with working_in(self._directory):
            free = shutil.disk_usage(self._directory).free
            if free < need:
                raise ConvertError(
                    "NNA1426",
                    f"{self._directory} has too little room",
                    cause=f"{free} bytes are free, {need} are needed",
                )
            path = tempfile.mkdtemp(prefix=_PREFIX, dir=self._directory)  # 0700
        new = os.path.join(path, f"{_LOCK}.new")
        lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with working_in(path):
                fcntl.flock(lock, fcntl.LOCK_EX)
                os.rename(new, os.path.join(path, _LOCK))  # whoever sees it sees it held
                yield DiskRoom(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)

    def left_behind(self) -> tuple[str, ...]:
        """See ports_convert.Rooms. Only directories of this user's own are looked at."""
        uploads = []
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.startswith(_PREFIX) and _is_ours(entry):
                    upload = _cleared(entry.path)
                    uploads += [upload] if upload else []
        return tuple(uploads)


def _end_converters(room: str) -> None:
    """What nydusify started outlives it where that is killed with its run: a nydus-image waits for ever at a fifo."""
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            place = f"/proc/{name}"
            if not name.isdecimal() or os.stat(place).st_uid != os.geteuid():
                continue
            with open(f"{place}/comm", "rb") as comm, open(f"{place}/cmdline", "rb") as line:
                if comm.read().startswith(b"nydus") and f"\0{room}/".encode() in line.read():
                    os.kill(int(name), signal.SIGKILL)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    status = entry.stat(follow_symlinks=False)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _cleared(path: str) -> str:
    """Clear a room whose run is gone; the upload that it had open."""
    try:
        lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # one that is being made, or whose run was killed at that very moment
        with contextlib.suppress(OSError):
            if time.time() - os.lstat(path).st_mtime > _MADE_S:
                shutil.rmtree(path, ignore_errors=True)
        return ""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        upload = ""
        with contextlib.suppress(OSError, UnicodeError), open(os.path.join(path, _UPLOAD), encoding="utf-8") as file:
            upload = file.read(_LONGEST)
        _end_converters(path)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        return ""
    else:
        return upload
    finally:
        os.close(lock)
