"""A real read by a private nydusd (check 10 of the proof): own mount namespace, empty cache, limits, a
deadline.

Its mount goes with it, however it ends (agent.system.nydusd); only a directory of files is left to remove.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from agent import paths
from agent.errors import NydusdError, hide
from agent.ports import Trial
from agent.system.loopback import PeerUid, Relay
from agent.system.nydusd import NydusdApi, command, socket_of, wait_for_mount
from agent.system.process import Companion, companion, last_written

_PREFIX = "trial-"
_STALE_S = 600  # of a run that was killed; a running one is minutes at most
_MOUNT_S = 15.0
_PIECE = 1 << 20
_ENOUGH = 400  # files looked at before the largest are read
_LOOKED_AT = 20_000  # entries of an image: one may hold millions of empty directories
_CPU_S = 60


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class PrivateTrials:
    """Trials with their files in `directory` (root's, not a temporary file system of the unit's own)."""

    def __init__(self, directory: str, uid_of: PeerUid) -> None:
        self._directory, self._uid_of = directory, uid_of

    def start(self, nydusd: str, *, deadline_s: float) -> str:
        """See ports.Trials."""
        with self._room() as room:
            (room / "mount").mkdir(mode=0o700)
            with open(room / "log", "wb") as log, companion(_argv(nydusd, room), log.fileno()) as child:
                try:
                    until = time.monotonic() + deadline_s
                    return wait_for_mount(
                        child, str(room), until, lambda cause: _refusal(room, cause)
                    ).version
                except NydusdError as error:
                    raise NydusdError(
                        "NNA0731", f"{nydusd} does not run on this node", cause=error.cause, seen=error.seen
                    ) from None

    def read(
        self,
        nydusd: str,
        bootstrap: str,
        configure: Callable[[str, str], bytes],
        *,
        mirror: tuple[str, int],
        limit: int,
        deadline_s: float,
    ) -> Trial:
        """See ports.Trials. What this process began is ended at the deadline, reads that hang included."""
        deadline = time.monotonic() + deadline_s
        with self._room() as room, Relay(mirror, self._uid_of) as relay:
            for name in ("cache", "mount"):
                (room / name).mkdir(mode=0o700)
            _secret(room / "config.json", configure(relay.url, str(room / "cache")))
            with (
                open(room / "log", "wb") as log,
                companion(_argv(nydusd, room, *_image(bootstrap, room)), log.fileno()) as child,
                child.killed_after(max(0.1, deadline - time.monotonic())),
            ):
                return _try(child, room, relay, limit, min(deadline, time.monotonic() + _MOUNT_S))

    @contextlib.contextmanager
    def _room(self) -> Iterator[Path]:
        self._sweep()
        where = self._directory
        try:
            where = tempfile.mkdtemp(prefix=_PREFIX, dir=self._directory)  # 0700
            yield Path(where)
        except OSError as error:
            cause = f"{where}: {error.strerror}"
            raise NydusdError("NNA0731", "a real read could not begin", cause=cause) from None
        finally:
            if where != self._directory:
                shutil.rmtree(where, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what a killed run left: files only, its mount went with its nydusd."""
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._directory):
                if not (entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False)):
                    continue
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_S:
                    shutil.rmtree(entry.path, ignore_errors=True)


def _image(bootstrap: str, room: Path) -> tuple[str, ...]:
    return "--config", str(room / "config.json"), "--bootstrap", bootstrap


def _argv(nydusd: str, room: Path, *image: str) -> list[str]:
    # No core (it would hold credentials); CPU seconds against a busy loop. The address space is not limited:
    # nydusd maps bootstraps and cache files of any size.
    limits = ["prlimit", "--core=0:0", f"--cpu={_CPU_S}:{_CPU_S}", "--"]
    # As in the snapshotter's unit: nydusd before v2.4.3 has no setting for a private CA.
    if os.path.exists(paths.CA_BUNDLE):
        limits += ["env", f"SSL_CERT_FILE={paths.CA_BUNDLE}", "SSL_CERT_DIR=/etc/ssl/certs"]
    return command([*limits, nydusd], str(room), *image, threads=2)


def _secret(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def _try(child: Companion, room: Path, relay: Relay, limit: int, mount_by: float) -> Trial:
    version, top = wait_for_mount(child, str(room), mount_by, lambda cause: _refusal(room, cause))
    read, error = read_files(top, limit)
    fetched = 0
    try:
        amount = NydusdApi().backend_metrics(socket_of(str(room)), deadline_s=5).get("read_amount_total", 0)
        fetched = amount if isinstance(amount, int) else 0
    except NydusdError as failed:
        error = error or str(failed)
    if error and child.code is None:
        error = "; ".join((error, *_last_lines(room)))
    return Trial(
        version, read, fetched, relay.relayed, relay.tasks, tuple(sorted(relay.answers.items())), error
    )


def _refusal(room: Path, cause: str) -> NydusdError:
    return NydusdError(
        "NNA0731", "a private nydusd could not mount the image", cause=cause, seen=_last_lines(room)
    )


def _last_lines(room: Path) -> tuple[str, ...]:
    """The end of its log, without lines that could carry credentials."""
    plain = (_COLOUR.sub("", line) for line in last_written(str(room / "log")).splitlines())
    told = (
        line
        for line in plain
        if re.search(r"\b(ERROR|WARN)", line) and not re.search("auth|token", line, re.I)
    )
    return tuple(hide(line[:300]) for line in told)[-2:]


def read_files(top: str, limit: int, *, entries: int = _LOOKED_AT) -> tuple[int, str]:
    """Read the largest of the first files below `top`, up to `limit` bytes. (bytes, why it ended early)."""
    found: list[tuple[int, str]] = []
    try:
        for path, size in _regular_files(top, entries):
            found.append((size, path))
            if len(found) >= _ENOUGH:
                break
        read = 0
        for _size, path in sorted(found, reverse=True):
            read += _read_file(path, limit - read)
            if read >= limit:
                break
    except OSError as error:
        return 0, f"a read failed: {error.strerror}"
    return read, "" if read else "the image has no file with content"


def _regular_files(top: str, left: int) -> Iterator[tuple[str, int]]:
    """Breadth first, never through a link: the image's links would lead to the node's own files."""
    waiting = [top]
    for directory in waiting:
        with os.scandir(directory) as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    return
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and (
                    size := entry.stat(follow_symlinks=False).st_size
                ):
                    yield entry.path, size


def _read_file(path: str, limit: int) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return 0
        read = 0
        while read < limit and (piece := os.read(fd, min(_PIECE, limit - read))):
            read += len(piece)
        return read
    finally:
        os.close(fd)
