"""What is told of the View: status.json, /livez and /readyz, and the first line of `systemctl status`.

The CLI answers from status.json, without root and without asking the daemon. It is written at each change and
every few seconds, by rename, so that a reader sees a whole document. No secrets.

/livez and /readyz have Kubernetes' form: machines read the status code, people `?verbose`. Ready means: reads
are served and protected, and the last proof failed nowhere. A node that reads from the origin
because the mirror is down works, and is ready; a node on which nothing was proved is not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import API_VERSION
from agent.daemon.documents import Pin
from agent.daemon.view import Condition, ContainerdConnections, HistoryEntry, Probed, Symptoms, View
from agent.health.evidence import Mode, Route
from agent.health.state import HealthState
from agent.plan.drift_form import encode_findings

_MODE = 0o644
LIVE_WITHIN_S = 3.0
"""The loop gives a sign each second; an older one means that the daemon is stuck."""


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
        "penalty": {
            "value": round(view.penalty.value, 1),
            "held": view.penalty.held,
            "reuse": view.penalty.reuse,
        },
        "return": {"waits_for": view.back.waits_for, "seconds": view.back.seconds},
        "origins": [
            {"host": seen.host, "ok": seen.ok, "at": seen.at, "detail": seen.detail} for seen in view.origins
        ],
        "pin": _pin(view.pin),
        "drift": encode_findings(view.drift),
        "conditions": [_condition(condition) for condition in view.conditions],
    }


def write(path: str, content: bytes) -> None:
    """Replace the file; /run is memory, so nothing is synced. Raises OSError."""
    temporary = f"{path}.new"
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE
    )
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, _MODE)  # whatever the umask: everyone may read it
        file.write(content)
    Path(temporary).replace(path)


class Encoder:
    """Makes the document's bytes. The history is by far its largest part and seldom changes: its text is
    kept."""

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
        "active": fence.active, "address": fence.address, "port": fence.port,
        "lease_left_ms": fence.lease_left_ms,
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


def _containerd(sockets: ContainerdConnections) -> Mapping[str, object]:
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
        f"{name}_ok": probed.ok, f"{name}_at": probed.at, f"{name}_ms": probed.ms,
        f"{name}_detail": probed.detail,
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
        "at": entry.at, "from": entry.before, "to": entry.after, "route_from": entry.route_from,
        "route": entry.route,
        "cause": entry.cause, "reason": entry.reason, "evidence": entry.evidence,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReadinessCheck:
    """One line of the answer."""

    name: str
    ok: bool
    text: str


def live(age_s: float) -> tuple[ReadinessCheck, ...]:
    """Whether the daemon's loop turns: `age_s` is its last sign's, by a clock that nobody sets."""
    return (ReadinessCheck("loop", age_s <= LIVE_WITHIN_S, f"turned {age_s:.1f} s ago"),)


def ready(view: View, age_s: float) -> tuple[ReadinessCheck, ...]:
    """Whether reads are served, protected and proved."""
    held = {condition.type: condition for condition in view.conditions if condition.holds}
    config = held.get("ConfigInvalid")
    fence_ok = view.mode is not Mode.FENCE or "FenceUnusable" not in held
    return (
        *live(age_s),
        ReadinessCheck("config", config is None, config.message if config else "valid"),
        ReadinessCheck("applied", view.mode is not Mode.UNKNOWN, view.mode_reason),
        ReadinessCheck("fence", fence_ok, view.fence.self_test_reason or f"mode {view.mode}"),
        ReadinessCheck("route", _served(view), f"{view.route}: {view.route_reason}"),
        ReadinessCheck(
            "proof", not view.proof.problem, view.proof.problem or "the last proof failed nowhere"
        ),
    )


def _served(view: View) -> bool:
    """Whether somebody answers reads: the mirror, or an origin that the route leads to."""
    if view.route is Route.ORIGIN:
        return view.origin is not False
    return view.health_state not in (HealthState.DOWN, HealthState.SUSPECT)


def render_checks(name: str, checks: tuple[ReadinessCheck, ...], *, verbose: bool) -> tuple[int, str]:
    """(HTTP status, body). A failure is verbose by itself."""
    good = all(check.ok for check in checks)
    if good and not verbose:
        return 200, "ok\n"
    lines = [_line(check) for check in checks]
    lines.append(f"{name} check {'passed' if good else 'failed'}")
    return (200 if good else 503), "\n".join(lines) + "\n"


def _line(check: ReadinessCheck) -> str:
    mark, word = ("+", "ok") if check.ok else ("-", "failed")
    return f"[{mark}]{check.name} {word}: {check.text}"


def sentence(view: View) -> str:
    """The first line of `systemctl status`."""
    if view.mode is Mode.UNKNOWN:
        return f"mirror {view.health_state}; {view.mode_reason}"
    return f"reads go to the {view.route}; mirror {view.health_state}: {view.health_reason}"
