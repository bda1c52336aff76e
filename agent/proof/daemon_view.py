"""What the daemon says of the mirror, for those who plan and prove: its last published status, read
defensively.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent import paths
from agent.errors import FileError
from agent.outside_json import json_value
from agent.ports import Ports

_FRESH_S = 10.0
"""The daemon publishes each second; an older status says nothing about now."""
_STATUS_CAP = 1 << 20
"""Bytes; a status is a few thousand."""
_NO_TIME_S = 1e15


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
        status = json_value(fact.content) if fact is not None and len(fact.content) <= _STATUS_CAP else None
    except (FileError, ValueError):
        return DaemonView(fresh=False)
    if not isinstance(status, dict):
        return DaemonView(fresh=False)
    at = status.get("at")
    # A whole number of JSON has no bounds (a float of it overflows), and with NaN every comparison is false.
    if not isinstance(at, (int, float)) or not abs(at) < _NO_TIME_S or abs(ports.clock.now() - at) > _FRESH_S:
        return DaemonView(fresh=False)
    return DaemonView(
        fresh=True, route=_text(status, "route"),
        reason=_text(status, "route_reason") or _text(status, "health_reason"),
        mode=_text(status, "mode"), mode_reason=_text(status, "mode_reason"),
        health_state=_text(status, "health_state"),
    )  # fmt: skip


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if isinstance(value, dict):  # {"now": …, "reason": …}
        value = value.get("now")
    return value[:200] if isinstance(value, str) else ""
