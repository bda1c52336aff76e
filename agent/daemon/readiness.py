"""/livez and /readyz in Kubernetes' form: machines read the status code, people `?verbose`.

Ready means: reads are served and protected, and the last proof failed nowhere. A node that reads from
the origin because the mirror is down works, and is ready; a node on which nothing was proved is not.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.daemon.view import View
from agent.health.evidence import Mode, Route
from agent.health.state import HealthState

LIVE_WITHIN_S = 3.0
"""The loop gives a sign each second; an older one means that the daemon is stuck."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the answer."""

    name: str
    ok: bool
    text: str


def live(age_s: float) -> tuple[Check, ...]:
    """Whether the daemon's loop turns: `age_s` is its last sign's, by a clock that nobody sets."""
    return (Check("loop", age_s <= LIVE_WITHIN_S, f"turned {age_s:.1f} s ago"),)


def ready(view: View, age_s: float) -> tuple[Check, ...]:
    """Whether reads are served, protected and proved."""
    held = {condition.type: condition for condition in view.conditions if condition.holds}
    config = held.get("ConfigInvalid")
    fence_ok = view.mode is not Mode.FENCE or "FenceUnusable" not in held
    return (
        *live(age_s),
        Check("config", config is None, config.message if config else "valid"),
        Check("applied", view.mode is not Mode.UNKNOWN, view.mode_reason),
        Check("fence", fence_ok, view.fence.self_test_reason or f"mode {view.mode}"),
        Check("route", _served(view), f"{view.route}: {view.route_reason}"),
        Check("proof", not view.proof.problem, view.proof.problem or "the last proof failed nowhere"),
    )


def _served(view: View) -> bool:
    """Whether somebody answers reads: the mirror, or an origin that the route leads to."""
    if view.route is Route.ORIGIN:
        return view.origin is not False
    return view.health_state not in (HealthState.DOWN, HealthState.SUSPECT)


def render(name: str, checks: tuple[Check, ...], *, verbose: bool) -> tuple[int, str]:
    """(HTTP status, body). A failure is verbose by itself."""
    good = all(check.ok for check in checks)
    if good and not verbose:
        return 200, "ok\n"
    lines = [_line(check) for check in checks]
    lines.append(f"{name} check {'passed' if good else 'failed'}")
    return (200 if good else 503), "\n".join(lines) + "\n"


def _line(check: Check) -> str:
    mark, word = ("+", "ok") if check.ok else ("-", "failed")
    return f"[{mark}]{check.name} {word}: {check.text}"
