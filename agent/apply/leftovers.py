"""What a bench has still to undo, in a file. A bench that is killed has lost its memory of it: `status`,
`doctor`, `remove` and the next bench tell what is left, with the command that mends it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent import paths
from agent.codec import to_json
from agent.errors import AgentError, ContainerdError, FileError
from agent.node.images import NAMESPACE
from agent.ports import Containerd, Files
from agent.records import json_files

_CALL_S = 5.0


@dataclass(frozen=True, slots=True)
class Away:
    """A name of an image that was on the node before the bench, and must come back."""

    name: str
    digest: str
    runtime: str
    """CRI's runtime handler that it is pulled for; "" = the default one."""


@dataclass(frozen=True, slots=True)
class Leftovers:
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


def lives(leftovers: Leftovers, proc: str) -> bool:
    """Whether the bench still runs that will undo it itself."""
    try:
        return (
            leftovers.pid > 0 and b"\0bench\0" in (Path(proc) / str(leftovers.pid) / "cmdline").read_bytes()
        )
    except OSError:
        return False


def read(files: Files) -> Leftovers:
    """What is recorded. Raises FileError."""
    return json_files.load(Leftovers, files, paths.BENCH) or Leftovers()


def write(files: Files, leftovers: Leftovers) -> None:
    """Record it, before what has to be undone is done; nothing is left of a record of nothing.

    Raises FileError.
    """
    if not (leftovers.away or leftovers.pulled):
        json_files.drop(files, paths.BENCH)
        return
    document = {"kind": "BenchLeftovers", **to_json(leftovers)}
    json_files.replace(files, paths.BENCH, document, found=files.read(paths.BENCH), mode=0o644)


def settle(files: Files, containerd: Containerd, proc: str) -> Leftovers:
    """What a bench that was killed has left; nothing while one lives, which will undo it itself.

    As `settled`.
    """
    try:
        return Leftovers() if lives(read(files), proc) else settled(files, containerd)
    except FileError:
        return Leftovers()


def settled(files: Files, containerd: Containerd) -> Leftovers:
    """What is left of what is recorded; what somebody has mended since is forgotten. What containerd cannot
    tell now stays as it is recorded. Raises FileError where the record cannot be read.
    """
    leftovers = read(files)
    if not (leftovers.away or leftovers.pulled):
        return Leftovers()
    try:
        here = {one.name for one in containerd.images(NAMESPACE, deadline_s=_CALL_S)}
    except ContainerdError:
        return leftovers
    left = Leftovers(
        leftovers.pid, tuple(one for one in leftovers.away if one.name not in here),
        tuple(name for name in leftovers.pulled if name in here),
    )  # fmt: skip
    if left != leftovers:
        with contextlib.suppress(FileError):
            write(files, left)
    return left
