"""What is told of the View: status.json, /livez and /readyz, and the first line of `systemctl status`.

The CLI answers from status.json, without root and without asking the daemon. It is written at each change and
every few seconds, by rename, so that a reader sees a whole document. No secrets.

/livez and /readyz have Kubernetes' form: machines read the status code, people `?verbose`. Ready means: reads
are served and protected, and the last proof failed nowhere. A node that reads from the origin
because the mirror is down works, and is ready; a node on which nothing was proved is not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from agent.codec import compact, to_document, to_json
from agent.daemon.view import View
from agent.documents.status import Change, DaemonStatus
from agent.health.evidence import Mode, Route
from agent.health.state import HealthState

_MODE = 0o644
LIVE_WITHIN_S = 3.0
"""The loop gives a sign each second; an older one means that the daemon is stuck."""


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
        self._history: tuple[Change, ...] = ()
        self._text = b"[]"

    def encode(self, view: View) -> bytes:
        """The document as it is written and served."""
        if view.history != self._history:
            self._history, self._text = view.history, compact(to_json(view.history))
        head = compact(to_document(replace(view, history=()), DaemonStatus))
        return head.removesuffix(b"[]}") + self._text + b"}\n"


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
