"""`nydus-agent status --why`: why reads go where they go, what brings them back, and how it came to that.

What is not known is called unknown.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.commands import events
from agent.commands.context import Context
from agent.commands.state.headline import Assessment
from agent.commands.state.picture import Agent, Picture
from agent.console import Part
from agent.documents.status import DaemonStatus, PenaltyStatus, SymptomsStatus
from agent.durations import in_words
from agent.errors import Exit

UNKNOWN = "unknown"
SHOWN = 10
"""The last transitions; `events` lists all."""


def explain(context: Context, picture: Picture, state: Assessment) -> None:
    """Print it below the first line of `status`."""
    console = context.console
    daemon = picture.daemon if isinstance(picture.daemon, DaemonStatus) else None
    history = daemon.history[-SHOWN:] if daemon is not None else ()
    console.line()
    if daemon is None:
        console.line(
            "nothing is known of before: the agent takes what it has published along when it is stopped"
        )
        console.table([("pin", _pin(picture))])
    else:
        if picture.agent is not Agent.RUNNING:
            console.line(
                f"what follows is {in_words(picture.age(daemon.at))} old, the last that the agent has "
                f"published"
            )
        console.table(list(_rows(picture, daemon)))
        console.line()
        console.line("last transitions" if history else "no transition since the agent was started")
    if history:
        events.show(console, history, indent=2)
    console.emit("Why", _body(picture, state.headline, state.exit))


def _rows(picture: Picture, daemon: DaemonStatus) -> Iterator[tuple[Part, ...]]:
    yield "route", f"{daemon.route} {_reason(picture, daemon.route_since, daemon.route_reason)}"
    yield "mirror", f"{daemon.health_state} {_reason(picture, daemon.health_since, daemon.health_reason)}"
    yield "cause", daemon.health_cause or UNKNOWN
    yield "evidence", daemon.evidence or "none against the mirror"
    if picture.agent is Agent.RUNNING:
        yield from _way_back(picture, daemon)
    yield "penalty", _penalty(daemon.penalty)
    yield "pin", _pin(picture)
    yield from _symptoms(picture, daemon.symptoms)
    yield "windows", f"ping {_ms(daemon.window_ms)}, canary {_ms(daemon.canary_window_ms)}"


def _reason(picture: Picture, since: float | None, reason: str) -> str:
    known = f"since {in_words(picture.age(since))}" if since is not None else "since when is unknown"
    return f"{known}: {reason}" if reason else known


def _way_back(picture: Picture, daemon: DaemonStatus) -> Iterator[tuple[Part, ...]]:
    if daemon.route == "mirror":
        yield "waits for", "nothing: reads go to the mirror"
        return
    if daemon.return_ is None:
        yield "waits for", UNKNOWN
    for number, what in enumerate(daemon.return_.waits_for if daemon.return_ else ()):
        yield ("waits for" if number == 0 else "", what)
    left = left_s(picture, daemon)
    yield "time left", UNKNOWN if left is None else f"{in_words(left)} at least"


def left_s(picture: Picture, daemon: DaemonStatus) -> float | None:
    """Seconds until reads go back to the mirror at the earliest; None: it cannot be told."""
    if picture.agent is not Agent.RUNNING or daemon.return_ is None or daemon.return_.seconds is None:
        return None
    return max(0.0, daemon.return_.seconds - picture.age(daemon.at))


def _penalty(penalty: PenaltyStatus | None) -> str:
    if penalty is None:
        return UNKNOWN
    held = f"the mirror is held back until it has fallen below {penalty.reuse:.0f}"
    return f"{penalty.value:.0f}, {held if penalty.held else 'which holds nothing back'}"


def _pin(picture: Picture) -> str:
    pin = picture.valid_pin
    if pin is None:
        return "none"
    why = f": {pin.reason}" if pin.reason else ""
    return f"to the {pin.route} for another {in_words(pin.until - picture.now)}, by {pin.by or 'root'}{why}"


def _symptoms(picture: Picture, symptoms: SymptomsStatus | None) -> Iterator[tuple[Part, ...]]:
    if symptoms is None:
        yield "symptoms", UNKNOWN
        return
    counts = ", ".join(f"{kind} {number}" for kind, number in symptoms.counts.items() if number)
    seen = f"{counts} since the agent was started" if counts else "none seen"
    if not symptoms.watching:
        seen = "unknown: real reads are not watched"
    elif symptoms.problem:
        seen = f"unknown: {symptoms.problem}" + (f" ({counts} before)" if counts else "")
    yield "symptoms", seen
    last = symptoms.last
    if last is not None:
        yield (
            "",
            f"the last {in_words(picture.age(last.at))} ago: {last.kind}: {last.detail}",
        )


def _ms(value: float | None) -> str:
    return f"{value:.0f} ms" if value is not None else UNKNOWN


def _body(picture: Picture, headline: str, exit_: Exit) -> dict[str, object]:
    daemon = picture.daemon if isinstance(picture.daemon, DaemonStatus) else None
    about = {
        name: getattr(daemon, name) if daemon is not None else None
        for name in ("route", "route_since", "route_reason", "health_state", "health_since", "health_reason",
                     "window_ms", "canary_window_ms", "penalty", "symptoms")
    }  # fmt: skip
    return {
        "headline": headline,
        "exit": int(exit_),
        "agent": {"state": picture.agent, "at": daemon.at if daemon is not None else None},
        **about,
        "health_cause": (daemon.health_cause or None) if daemon is not None else None,
        "evidence": daemon.evidence if daemon is not None else None,
        "waits_for": daemon.return_.waits_for if daemon is not None and daemon.return_ is not None else None,
        "seconds_left": left_s(picture, daemon) if daemon is not None else None,
        "pin": picture.valid_pin,
        "history": daemon.history[-SHOWN:] if daemon is not None else (),
    }
