"""What a former run of the daemon has told, read back at the start, so that the history goes on over a restart.

It lies in status.json, which systemd keeps while the unit is restarted (RuntimeDirectoryPreserve=restart) and removes
when it is stopped. Only a regular file of this process's own user counts, of at most 1 MiB; whatever else is there, or
makes no sense in it, is passed over: nothing of it may keep the daemon from starting.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from agent import API_VERSION
from agent.daemon.documents import Document, Loose
from agent.daemon.view import HistoryEntry
from agent.health.state import HealthState

_LATEST = 1e15
_STARTED = "the agent was started anew and judges the mirror once more"
_WENT_ON = "the agent was started anew and goes on from what it knew"
_CAP = 99
"""Entries that are taken over; with that of the start itself they are what a history holds."""


def recall(status: str, now: float, health_state: HealthState = HealthState.UNKNOWN) -> tuple[HistoryEntry, ...]:
    """The entries of a former run, oldest first, and one for this start; none where there was no such run.
    `health_state`: what is still known of the mirror.
    """
    document = Document(status, os.geteuid()).load()
    if document is None or (document.get("apiVersion"), document.get("kind")) != (API_VERSION, "DaemonStatus"):
        return ()
    listed = document.get("history")
    entries = tuple(_entries(listed[-_CAP:])) if isinstance(listed, list) else ()
    if not entries:
        return ()
    last = entries[-1]
    again = last.reason in (_STARTED, _WENT_ON)
    if again:  # and nothing has happened since: a crash loop must not fill the history
        entries = entries[:-1]
    before = last.before if again else last.after
    why = _STARTED if health_state is HealthState.UNKNOWN else _WENT_ON
    # Where reads go did not change by it.
    return (*entries, HistoryEntry(now, before, health_state.value, last.route, why, "", last.route))


def _entries(listed: list[object]) -> Iterator[HistoryEntry]:
    for item in listed:
        at = item.get("at") if isinstance(item, dict) else None
        if isinstance(item, dict) and not isinstance(at, bool) and isinstance(at, (int, float)) and 0 < at < _LATEST:
            yield HistoryEntry(
                float(at), _text(item, "from"), _text(item, "to"), _text(item, "route"), _text(item, "reason"),
                _text(item, "evidence"), _text(item, "route_from"), _text(item, "cause"),
            )  # fmt: skip


def _text(item: Loose, key: str) -> str:
    value = item.get(key)
    return value[:1000] if isinstance(value, str) else ""
