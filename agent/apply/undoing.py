"""The record of what a bench has still to undo (undone.py), kept as root keeps it."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import Protocol

from agent import paths
from agent.apply import documents
from agent.apply.undone import Undone, lives, undone_of
from agent.errors import ContainerdError, FileError
from agent.node.images import NAMESPACE
from agent.ports import Containerd, Files

_CALL_S = 5.0


class Ports(Protocol):
    """What is needed of agent.ports.Ports."""

    @property
    def files(self) -> Files:
        """Files."""

    @property
    def containerd(self) -> Containerd:
        """Containerd."""


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
