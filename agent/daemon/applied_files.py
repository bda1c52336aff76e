"""What the daemon can see for itself of what was applied: files that everyone may read, against published
digests.

Only what it has looked at is judged; the rest is root's to say. A file is read again only when its inode says
that it was changed, so that a look costs some system calls.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import paths
from agent.plan import own, unit_files
from agent.plan.drift import (
    Expected,
    ExpectedFile,
    Finding,
    Kind,
    Remedy,
    Seen,
    file_findings,
    key_findings,
    link_findings,
)

_SIZE_CAP = 1 << 20
_FILE_KINDS = (Kind.FILE_EDITED, Kind.FILE_REMOVED, Kind.FILE_MADE, Kind.FILE_TAKEN_OVER, Kind.FILE_RIGHTS)
_KEY_KINDS = (Kind.KEYS_LOST, Kind.KEYS_CONTRADICTED, Kind.IMPORT_LOST)

_ACTIVE = "/run/systemd/units"
"""systemd keeps a link there for each unit that is not inactive or failed (unit_export_invocation_id)."""


class UnseenError(Exception):
    """The file is there, and may not or cannot be read."""


@dataclass
class Sight:
    """What one look has told. `judged` holds what was looked at: where root says otherwise there, root's is
    older.
    """

    findings: list[Finding] = field(default_factory=list)
    judged: set[tuple[Kind, str]] = field(default_factory=set)

    def add(self, kinds: tuple[Kind, ...], subject: str, found: Iterator[Finding]) -> None:
        """One thing was looked at."""
        self.findings += found
        self.judged.update((kind, subject) for kind in kinds)


class AppliedFiles:
    """`root` is "/", or a directory in tests; `containerd_config` is where containerd's file lies."""

    def __init__(self, root: str, containerd_config: str) -> None:
        self._root = root
        self._containerd_config = containerd_config
        self._known: dict[str, tuple[tuple[int, ...], bytes]] = {}

    def read(self, expected: Expected) -> Sight:
        """Everything that can be seen now, but for what needs patience (`down`)."""
        sight = Sight()
        for one in expected.files:
            self._file(one, sight)
        for path in dict.fromkeys(key.path for key in expected.keys):
            self._keys(expected, path, sight)
        for link in expected.links:
            there = os.path.lexists(self._at(link))
            sight.add((Kind.UNIT_DISABLED,), link.rpartition("/")[2], link_findings(link, there=there))
        for path in self._unit_files():
            self._unit_file(expected, path, sight)
        return sight

    def down(self) -> bool | None:
        """Whether systemd says that the snapshotter's unit is inactive or has failed;

        None: it does not tell us.
        """
        if not Path(self._at(_ACTIVE)).is_dir():
            return None
        return not os.path.lexists(self._at(active_link()))

    def change_under_way(self, lock: str) -> bool:
        """Whether somebody holds the lock of changes: the kernel lists it for everyone (proc_locks(5))."""
        try:
            inode = Path(lock).stat().st_ino
            with open(self._at("/proc/locks")) as locks:
                rows = [line.split() for line in locks]
        except OSError:
            return False
        held = (row[5].rpartition(":")[2] for row in rows if len(row) > 5 and row[1] == "FLOCK")
        return str(inode) in held

    def _at(self, path: str) -> str:
        return path if self._root == "/" else str(Path(self._root) / path.lstrip("/"))

    def _file(self, expected: ExpectedFile, sight: Sight) -> None:
        path = self._at(expected.path)
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            sight.add(_FILE_KINDS, expected.path, file_findings(expected, None))
            return
        except OSError:
            return
        try:
            link = str(Path(path).readlink()) if stat.S_ISLNK(found.st_mode) else ""
            content = b"" if link else self._read(expected.path)
        except PermissionError:
            self._closed(expected, found, sight)
            return
        except (OSError, UnseenError):
            return  # it has just gone: the next event is on its way
        seen = Seen(
            hashlib.sha256(content).hexdigest(), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid,
            own.marked(content), not content, link,
        )  # fmt: skip
        sight.add(_FILE_KINDS, expected.path, file_findings(expected, seen))
        if expected.path == paths.SNAPSHOTTER_UNIT_FILE:
            sight.judged.add((Kind.UNIT_MASKED, paths.SNAPSHOTTER_UNIT))

    def _closed(self, expected: ExpectedFile, found: os.stat_result, sight: Sight) -> None:
        """Somebody took away the right to read it; what is in it, root must say."""
        if expected.sha256:
            seen = Seen(expected.sha256, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, marked=True)
            sight.add((Kind.FILE_RIGHTS,), expected.path, file_findings(expected, seen))

    def _keys(self, expected: Expected, path: str, sight: Sight) -> None:
        keys = tuple(key for key in expected.keys if key.path == path)
        try:
            document: Mapping[str, Any] | None = tomllib.loads(self._read(path).decode())
        except FileNotFoundError:
            document = None
        except ValueError:
            document = {}
        except (OSError, UnseenError):
            return
        sight.add(_KEY_KINDS, path, key_findings(path, keys, document))

    def _unit_files(self) -> Iterator[str]:
        for directory in unit_files.drop_in_directories():
            try:
                names = sorted(entry.name for entry in Path(self._at(directory)).iterdir())
            except OSError:
                continue
            yield from (f"{directory}/{name}" for name in names if name.endswith(".conf"))
        for directory in unit_files.DIRECTORIES:
            yield from (f"{directory}/{unit}" for unit in paths.RUNTIME_UNITS)

    def _unit_file(self, expected: Expected, path: str, sight: Sight) -> None:
        try:
            content = self._read(path)
        except (OSError, UnseenError):
            return
        unit, digest = unit_files.unit_of(path), hashlib.sha256(content).hexdigest()
        known = (path, digest) in expected.unit_files
        text = "" if known else content.decode(errors="replace")
        sight.add(
            (Kind.UNIT_OVERRIDDEN,), path, unit_files.findings(path, unit, text, self._containerd_config)
        )

    def _read(self, path: str) -> bytes:
        """Raises OSError, UnseenError."""
        descriptor = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > _SIZE_CAP:
                raise UnseenError(path)
            stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            known = self._known.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            content = file.read(_SIZE_CAP)
        self._known[path] = stamp, content
        return content


def active_link() -> str:
    """The link that systemd keeps while the snapshotter's unit is active."""
    return f"{_ACTIVE}/invocation:{paths.SNAPSHOTTER_UNIT}"


def down_finding() -> Finding:
    """The snapshotter's unit does not run."""
    unit = paths.SNAPSHOTTER_UNIT
    what = f"{unit} does not run: systemd says that it is inactive or has failed"
    return Finding(Kind.UNIT_DOWN, unit, what, Remedy.REPAIR, "sudo nydus-agent repair")
