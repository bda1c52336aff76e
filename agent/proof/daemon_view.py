"""What the daemon says of the mirror, for those who plan and prove: its last published status, read
defensively.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent import paths
from agent.documents.codec import DocumentError, load_document
from agent.documents.status import DaemonStatus
from agent.errors import FileError
from agent.ports import Ports

_FRESH_S = 10.0
"""The daemon publishes each second; an older status says nothing about now."""
_STATUS_CAP = 1 << 20
"""Bytes; a status is a few thousand."""


@dataclass(frozen=True, slots=True)
class DaemonView:
    """What the daemon published, as far as the proof needs it. Written by an unprivileged user: nothing is
    trusted beyond being shown, and an `origin` here only makes checks say less.
    """

    fresh: bool
    route: str = ""
    reason: str = ""
    mode: str = ""
    mode_reason: str = ""
    health_state: str = ""


def daemon_view(ports: Ports) -> DaemonView:
    """The daemon's last status; not fresh where it is missing, old or damaged."""
    try:
        fact = ports.files.read(paths.STATUS)
        status = load_document(DaemonStatus, fact.content, _STATUS_CAP) if fact is not None else None
    except (FileError, DocumentError):
        return DaemonView(fresh=False)
    if status is None or abs(ports.clock.now() - status.at) > _FRESH_S:
        return DaemonView(fresh=False)
    return DaemonView(
        fresh=True, route=status.route, reason=_cut(status.route_reason or status.health_reason),
        mode=status.mode, mode_reason=_cut(status.mode_reason), health_state=status.health_state,
    )  # fmt: skip


def _cut(text: str) -> str:
    return text[:200]
