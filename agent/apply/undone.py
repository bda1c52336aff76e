"""What a bench has still to undo, in a file: where it is killed, its memory of that is gone, and `status`, `doctor`,
`remove` and the next bench tell it with the command that mends it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from agent import paths
from agent.apply import documents
from agent.dataclass import asdict, dataclass
from agent.errors import AgentError, ContainerdError, FileError
from agent.node.images import NAMESPACE
from agent.ports import Containerd, Files

_CALL_S = 5.0


@dataclass(frozen=True, slots=True)
class Away:
    """A name of an image that was on the node before the bench, and must come back."""

    name: str
    digest: str
    runtime: str
    """CRI's runtime handler that it is pulled for; "" = the default one."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What one bench has still to undo."""

    pid: int = 0
    """Of the bench; 0: none."""
    away: tuple[Away, ...] = ()
    pulled: tuple[str, ...] = ()
    """Images that were new to CRI, and are to go."""

    def problems(self) -> Iterator[AgentError]:
        """What is left of it, once it is dead."""
        for one in self.away:
            what = f"{one.name} was on the node, and a bench that was killed has taken it away"
            yield AgentError("NNA1709", what, try_=f"sudo crictl pull {one.name}")
        for name in self.pulled:
            what = f"{name} was pulled by a bench that was killed, and may be on the node still"
            yield AgentError("NNA1709", what, try_=f"sudo crictl rmi {name}")


class Ports(Protocol):
    """What is needed of agent.ports.Ports."""

    @property
    def files(self) -> Files:
        """Files."""

    @property
    def containerd(self) -> Containerd:
        """Containerd."""


def undone_of(document: object) -> Undone:
    """The record in a JSON document; empty where it is none."""
    try:
        found = document if isinstance(document, dict) else {}
        away = tuple(Away(str(one["name"]), str(one["digest"]), str(one["runtime"])) for one in found.get("away", ()))
        return Undone(int(found.get("pid", 0)), away, tuple(map(str, found.get("pulled", ()))))
    except (KeyError, TypeError, ValueError):
        return Undone()


def read(files: Files) -> Undone:
    """What is recorded. Raises FileError."""
    return undone_of(documents.parsed(files.read(paths.BENCH)))


def write(files: Files, undone: Undone) -> None:
    """Record it, before what has to be undone is done; nothing is left of a record of nothing. Raises FileError."""
    if not (undone.away or undone.pulled):
        documents.drop(files, paths.BENCH)
        return
    document = {"kind": "BenchUndone", **asdict(undone)}
    documents.replace(files, paths.BENCH, document, found=files.read(paths.BENCH), mode=0o644)


def lives(undone: Undone, proc: str) -> bool:
    """Whether the bench still runs that will undo it itself."""
    try:
        return undone.pid > 0 and b"\0bench\0" in (Path(proc) / str(undone.pid) / "cmdline").read_bytes()
    except OSError:
        return False


def settle(ports: Ports, proc: str) -> Undone:
    """What a bench that was killed has left; nothing while one lives, which will undo it itself. As `settled`."""
    try:
        return Undone() if lives(read(ports.files), proc) else settled(ports)
    except FileError:
        return Undone()


def settled(ports: Ports) -> Undone:
    """What is left of what is recorded; what somebody has mended since is forgotten. What containerd cannot tell now
    stays as it is recorded. Raises FileError where the record cannot be read.
    """
    undone = read(ports.files)
    if not (undone.away or undone.pulled):
        return Undone()
    try:
        here = {one.name for one in ports.containerd.images(NAMESPACE, deadline_s=_CALL_S)}
    except ContainerdError:
        return undone
    left = Undone(
        undone.pid, tuple(one for one in undone.away if one.name not in here),
        tuple(name for name in undone.pulled if name in here),
    )  # fmt: skip
    if left != undone:
        with contextlib.suppress(FileError):
            write(ports.files, left)
    return left
