"""The lock and the journal of the open transaction, as files of the state directory.

The journal is one file of lines (0600 in a directory of 0700, because it holds the files that it can put
back). A line is on the disk (fdatasync) before `append` returns; a torn last line is one whose act never
began.

Besides, the lock of those who drive dpkg.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
from collections.abc import Iterator

from agent.errors import FileError, LockedError
from agent.system.walk import opened

_JOURNAL = "journal"
_LINES = "journal/open.jsonl"
_RESERVE = "journal/reserve"
_MADE = "journal/open.jsonl.new"


class DiskLedger:
    """A ledger in `directory`, which is made where it is missing (0755, as systemd's StateDirectory makes
    it).
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def lock(self, who: str) -> Iterator[None]:
        """Take the lock at once or not at all. The file stays empty: who holds it is the kernel's to say.

        0600: flock(2) needs no more than an open descriptor, so whoever may read the file could forbid every
        change.
        """
        with _told("take the lock", self._path("lock")):
            os.makedirs(self._directory, mode=0o755, exist_ok=True)
            fd = os.open(self._path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(fd).st_mode & 0o077:
                os.fchmod(fd, 0o600)
            self._take(fd, who)
            yield
        finally:
            os.close(fd)

    def _take(self, fd: int, who: str) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                "NNA0401", f"{who} cannot begin: another run is under way",
                cause=f"{_words(_holder(fd))} holds {self._path('lock')}",
                try_="wait until it is done, then try again",
            ) from None  # fmt: skip

    def holder(self) -> int:
        """See ports.Ledger."""
        with (
            contextlib.suppress(OSError),
            opened(self._path("lock"), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC) as fd,
        ):
            return _holder(fd)
        return 0

    def end_holder(self, pid: int, *, kill: bool) -> bool:
        """See ports.Ledger.

        The process is pinned before it is looked at, so that no other is hit in its place.
        """
        try:
            process = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            if self.holder() != pid:
                return False
            for number in (signal.SIGKILL,) if kill else (signal.SIGTERM, signal.SIGCONT):
                signal.pidfd_send_signal(process, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(process)
        return True

    def begin(self, first: bytes, reserve: int) -> None:
        """The journal appears by rename, with its first line and after its reserve is there."""
        with _told("begin the journal", self._path(_LINES)):
            os.makedirs(self._path(_JOURNAL), mode=0o700, exist_ok=True)
            os.chmod(self._path(_JOURNAL), 0o700)
            try:
                with _new(self._path(_RESERVE)) as fd:
                    os.posix_fallocate(fd, 0, max(1, reserve))
                with _new(self._path(_MADE)) as fd:
                    _write(fd, first + b"\n")
                os.rename(self._path(_MADE), self._path(_LINES))
                self._sync(_JOURNAL)
                self._sync("")
            except OSError:
                self._forget(_LINES, _RESERVE, _MADE)
                raise

    def append(self, line: bytes) -> None:
        """One line, whole or not at all in the eyes of `lines`."""
        with _told("write to the journal", self._path(_LINES)):
            fd = os.open(self._path(_LINES), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                size = os.fstat(fd).st_size
                torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
                data = (b"\n" if torn else b"") + line + b"\n"
                try:
                    _write(fd, data)
                except OSError:
                    os.ftruncate(fd, size)
                    raise
            finally:
                os.close(fd)

    def lines(self) -> tuple[bytes, ...]:
        """All whole lines."""
        with _told("read the journal", self._path(_LINES)):
            try:
                with open(self._path(_LINES), "rb") as file:
                    content = file.read()
            except FileNotFoundError:
                return ()
        whole, _, _torn = content.rpartition(b"\n")
        return tuple(line for line in whole.split(b"\n") if line)

    def spend(self) -> None:
        """The reserve's blocks become free."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(_RESERVE))

    def close(self) -> None:
        """The journal's file goes first: what is left without it is nothing to undo."""
        with _told("close the journal", self._path(_LINES)):
            self._forget(_LINES)
            self._sync(_JOURNAL)
            self._forget(_RESERVE, _MADE)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _forget(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(name))

    def _sync(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(self._path(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _holder(fd: int) -> int:
    """The process that holds a lock of this file (proc_locks(5)), 0 where none is seen.

    The kernel names the file by its number and its file system, which only mountinfo names in the same way:
    that of stat(2) is another one on btrfs and overlayfs. A user's own file system may have the same number.
    """
    with (
        contextlib.suppress(OSError, ValueError, IndexError, StopIteration),
        open(f"/proc/self/fdinfo/{fd}") as info,
        open("/proc/self/mountinfo") as mounts,
        open("/proc/locks") as locks,
    ):
        mount = next(line.split()[1] for line in info if line.startswith("mnt_id:"))
        major, minor = next(row[2] for row in map(str.split, mounts) if row[0] == mount).split(":")
        file = f"{int(major):02x}:{int(minor):02x}:{os.fstat(fd).st_ino}"
        for fields in map(str.split, locks):
            if "->" not in fields and (fields[1], fields[5]) == ("FLOCK", file):
                return max(0, int(fields[4]))
    return 0


def _words(pid: int) -> str:
    """A process with its command line."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            words = command.read(300).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return f"process {pid}" if pid else "another process"
    return f"process {pid} ({words})"


@contextlib.contextmanager
def _new(path: str) -> Iterator[int]:
    """A new file of root's, on the disk when the block ends."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield fd
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
    os.fdatasync(fd)


@contextlib.contextmanager
def _told(doing: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError("NNA0427", f"cannot {doing}", cause=f"{path}: {error.strerror}") from None


_FLOCK = "hhqqi4x"
"""struct flock of Linux on 64-bit machines (fcntl.h): type, whence, start, length, pid."""


class DpkgFrontend:
    """The frontend lock below `root`, which apt holds across all its runs of dpkg (dpkg(1), "lock-frontend"):
    a POSIX record lock, so flock(1) would not see it.
    """

    def __init__(self, root: str = "/") -> None:
        self._path = os.path.join(root, "var/lib/dpkg/lock-frontend")

    def holder(self) -> int | None:
        """See ports.PackageManager. Nobody holds a lock file that is not there."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        finally:
            os.close(descriptor)
        return None if kind == fcntl.F_UNLCK else int(pid)
