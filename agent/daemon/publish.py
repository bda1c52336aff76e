"""status.json: what the CLI answers from, without root and without asking the daemon. Written at each
change and every few seconds, by rename, so that a reader sees a whole document. No secrets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from agent import API_VERSION
from agent.daemon.documents import Pin
from agent.daemon.view import Condition, Containerd, HistoryEntry, Probed, Symptoms, View
from agent.plan.drift_form import encode_findings

_MODE = 0o644


def _head(view: View) -> dict[str, object]:
    """All but the history; fields are only ever added."""
    return {
        "apiVersion": API_VERSION,
        "kind": "DaemonStatus",
        "pid": view.pid,
        "at": view.at,
        "started_at": view.started_at,
        "mode": view.mode.value,
        "mode_reason": view.mode_reason,
        "health_state": view.health_state.value,
        "health_since": view.health_since,
        "health_reason": view.health_reason,
        "health_cause": view.health_cause,
        "health_evidence": view.health_evidence,
        "route": view.route.value,
        "route_since": view.route_since,
        "route_reason": view.route_reason,
        "fence": _fence(view),
        "containerd": _containerd(view.containerd),
        "mirror": _mirror(view),
        "window_ms": _ms(view.window_s),
        "canary_window_ms": _ms(view.canary_window_s),
        "symptoms": _symptoms(view.symptoms),
        "penalty": {"value": round(view.penalty.value, 1), "held": view.penalty.held, "reuse": view.penalty.reuse},
        "return": {"waits_for": view.back.waits_for, "seconds": view.back.seconds},
        "origins": [{"host": seen.host, "ok": seen.ok, "at": seen.at, "detail": seen.detail} for seen in view.origins],
        "pin": _pin(view.pin),
        "drift": encode_findings(view.drift),
        "conditions": [_condition(condition) for condition in view.conditions],
    }


def write(path: str, content: bytes) -> None:
    """Replace the file; /run is memory, so nothing is synced. Raises OSError."""
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, _MODE)  # whatever the umask: everyone may read it
        file.write(content)
    Path(temporary).replace(path)


class Encoder:
    """Makes the document's bytes. The history is by far its largest part and seldom changes: its text is kept."""

    def __init__(self) -> None:
        self._history: tuple[HistoryEntry, ...] = ()
        self._text = b"[]"

    def encode(self, view: View) -> bytes:
        """The document as it is written and served."""
        if view.history != self._history:
            self._history, self._text = view.history, _json([_entry(entry) for entry in view.history])
        return _json(_head(view))[:-1] + b',"history":' + self._text + b"}\n"


def _json(value: object) -> bytes:
    # Half a surrogate pair becomes \udXXX, which is JSON's own way to write it.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")


def _fence(view: View) -> Mapping[str, object]:
    fence = view.fence
    return {
        "active": fence.active, "address": fence.address, "port": fence.port, "lease_left_ms": fence.lease_left_ms,
        "refused_connects": fence.refused, "raised": fence.raised, "renewed": fence.renewed,
        "destroyed_connections": fence.destroyed,
        "self_test": fence.self_test, "self_test_reason": fence.self_test_reason,
    }  # fmt: skip


def _mirror(view: View) -> Mapping[str, object]:
    return {
        "url": view.mirror_url,
        **_probed("ping", view.ping),
        "owner": view.owner.value,
        "owner_detail": view.owner_detail,
        **_probed("canary", view.canary),
    }


def _containerd(sockets: Containerd) -> Mapping[str, object]:
    return {
        "released_waiting": sockets.released_waiting, "released_stalled": sockets.released_stalled,
        "spared": sockets.spared,
    }  # fmt: skip


def _symptoms(symptoms: Symptoms) -> Mapping[str, object]:
    last = symptoms.last
    return {
        "watching": symptoms.watching, "problem": symptoms.problem, "counts": dict(symptoms.counts),
        "last": None if last is None else {"kind": last.kind, "detail": last.detail, "at": last.at},
    }  # fmt: skip


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _probed(name: str, probed: Probed) -> Mapping[str, object]:
    return {
        f"{name}_ok": probed.ok, f"{name}_at": probed.at, f"{name}_ms": probed.ms, f"{name}_detail": probed.detail,
    }  # fmt: skip


def _pin(pin: Pin | None) -> Mapping[str, object] | None:
    if pin is None:
        return None
    return {"route": pin.route.value, "until": pin.until, "reason": pin.reason, "by": pin.by}


def _condition(condition: Condition) -> Mapping[str, object]:
    return {
        "type": condition.type, "status": "True" if condition.holds else "False", "since": condition.since,
        "reason": condition.reason, "message": condition.message,
    }  # fmt: skip


def _entry(entry: HistoryEntry) -> Mapping[str, object]:
    return {
        "at": entry.at, "from": entry.before, "to": entry.after, "route_from": entry.route_from, "route": entry.route,
        "cause": entry.cause, "reason": entry.reason, "evidence": entry.evidence,
    }  # fmt: skip
