"""`nydus-agent status`: the state in words, then the details, then what is wrong. With --why: why reads go
where they go, what brings them back, and how it came to that.

No root, no daemon needed. What is not known is called unknown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

from agent.commands import events
from agent.commands.context import Context
from agent.commands.state.assessment import Assessment, assess
from agent.commands.state.picture import Picture, take
from agent.console import Part, Tone, Toned, error_body, error_lines
from agent.documents.status import (
    DaemonStatus,
    EffectiveDocument,
    FenceStatus,
    MirrorStatus,
    PenaltyStatus,
    PinStatus,
    ProofDocument,
    SymptomsStatus,
)
from agent.durations import in_words
from agent.errors import Exit

HELP = "say where reads go and what was proved"
NEEDS_ROOT = False

UNKNOWN = "unknown"
SHOWN = 10
"""The last transitions that --why shows; `events` lists all."""

_TONES = {
    "healthy": Tone.GOOD, "down": Tone.BAD, "suspect": Tone.WARN, "probation": Tone.WARN,
    "unknown": Tone.WARN,
    "ok": Tone.GOOD, "failed": Tone.BAD, "not-proved": Tone.WARN,
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--why."""
    parser.add_argument(
        "--why", action="store_true", help="why reads go where they go, and what brings them back, instead"
    )


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Never raises on what it finds: what cannot be told is told so."""
    picture = take(context, time.time())
    found = assess(picture)
    console = context.console
    console.line(Toned(found.headline, found.tone))
    if args.why:
        _explain(context, picture, found)
        return found.exit
    rows = list(_rows(picture))
    if rows:
        console.line()
        console.table(rows)
    if picture.proved is not None and picture.proved.checks:
        console.line()
        console.line(f"proof, made {picture.ago(picture.proved.at)} ago")
        console.table(list(_checks(picture.proved)), indent=2)
    if found.problems:
        console.line()
        console.line(Toned("problems", Tone.STRONG))
    for problem in found.problems:
        for parts in error_lines(problem, "problem"):
            console.line("  ", *parts)
    console.emit("Status", _body(picture, found))
    return found.exit


def _rows(picture: Picture) -> Iterator[tuple[Part, ...]]:
    if picture.published is not None:
        yield from _daemon_rows(picture, picture.published)
    if picture.applied is not None:
        yield from _effective_rows(picture.applied)
        for one in picture.drift:
            yield "drift", Toned(one.kind, Tone.WARN), one.what
    if picture.unconfirmed is not None:
        left = in_words(picture.unconfirmed.left_s)
        told = Toned(f"generation {picture.unconfirmed.generation}", Tone.WARN)
        yield "unconfirmed", told, f"rolled back in {left} unless: nydus-agent confirm"


def _daemon_rows(picture: Picture, daemon: DaemonStatus) -> Iterator[tuple[Part, ...]]:
    running = ""
    if picture.running is not None:  # otherwise these are memories
        running = f", since {picture.ago(daemon.started_at)}"
        yield "route", daemon.route, _since(picture, daemon.route_since, daemon.route_reason)
        health_state = Toned(daemon.health_state, _TONES.get(daemon.health_state, Tone.WARN))
        yield "state", health_state, _since(picture, daemon.health_since, daemon.health_reason)
        yield "mode", daemon.mode, daemon.mode_reason
        yield ("fence", *_fence(daemon.fence))
        yield "mirror", daemon.mirror_address or UNKNOWN, _mirror(picture, daemon.mirror)
        for origin in daemon.origins:
            told = f"{_answer(origin.ok, origin.detail)}{_ago(picture, origin.at)}"
            yield "origin", origin.host or UNKNOWN, told
    pin = picture.valid_pin
    if pin is None:
        yield "pin", "none", ""
    else:
        yield "pin", pin.route, f"for another {_pin_words(picture, pin)}"
    yield "agent", picture.agent.words, f"pid {daemon.pid}{running}{_ago(picture, daemon.at, 'published ')}"


def _effective_rows(effective: EffectiveDocument) -> Iterator[tuple[Part, ...]]:
    number_ = f"generation {effective.generation}" if effective.generation else ""
    if effective.rolled_back_to:
        number_ += f", rolled back to {effective.rolled_back_to}: it holds until nydus-agent apply"
    yield "applied", f"{effective.switch}, {effective.dialect}", number_
    for reason in effective.reasons:
        yield "", "", reason
    for registry in effective.not_accelerated:
        yield "not accelerated", registry


def _fence(fence: FenceStatus) -> tuple[str, str]:
    reason = f": {fence.self_test_reason}" if fence.self_test_reason and fence.self_test != "ok" else ""
    tested = f"self-test {fence.self_test}{reason}"
    if not fence.active:
        return "not raised", tested
    lease = f"lease ends in {fence.lease_left_ms} ms, {fence.refused_connects} connects refused"
    return "raised", f"at {fence.address}:{fence.port}, {lease}, {tested}"


def _mirror(picture: Picture, mirror: MirrorStatus) -> str:
    told = []
    for name, ok, took, detail, at in (
        ("ping", mirror.ping_ok, mirror.ping_ms, mirror.ping_detail, mirror.ping_at),
        ("canary", mirror.canary_ok, mirror.canary_ms, mirror.canary_detail, mirror.canary_at),
    ):
        spent = f" in {took:.1f} ms" if took is not None and ok else ""
        told.append(f"{name} {_answer(ok, detail)}{spent}{_ago(picture, at)}")
    told.append(f"owner {mirror.owner}" + (f" ({mirror.owner_detail})" if mirror.owner_detail else ""))
    return "; ".join(told)


def _answer(ok: bool | None, detail: str) -> str:  # noqa: FBT001 - three values, not a switch
    why = f" ({detail})" if detail and not ok else ""
    return {True: "ok", False: "failed", None: "unknown"}[ok] + why


def _ago(picture: Picture, at: float | None, before: str = "") -> str:
    return f", {before}{picture.ago(at)} ago" if at is not None else ""


def _since(picture: Picture, at: float, reason: str) -> str:
    return f"since {picture.ago(at)}" + (f": {reason}" if reason else "")


def _pin_words(picture: Picture, pin: PinStatus) -> str:
    why = f": {pin.reason}" if pin.reason else ""
    return f"{in_words(pin.until - picture.now)}, by {pin.by or 'root'}{why}"


def _checks(proof: ProofDocument) -> Iterator[tuple[Part, ...]]:
    for check in proof.checks:
        state = Toned(check.state.replace("-", " "), _TONES.get(check.state, Tone.WARN))
        yield f"{check.number:>2}", state, check.name, check.detail


def _body(picture: Picture, found: Assessment) -> dict[str, object]:
    last, applied = picture.published, picture.applied
    return {
        "headline": found.headline,
        "exit": int(found.exit),
        "agent": {"state": picture.agent, "age_s": round(picture.age(last.at), 1) if last else None},
        "daemon": picture.daemon,
        # 0 stands for "no rollback" in this answer, as it always has.
        "effective": picture.effective
        if applied is None
        else replace(applied, rolled_back_to=applied.rolled_back_to or 0),
        "proof": picture.proof,
        "pin": picture.valid_pin,
        "drift": picture.drift,
        "unconfirmed": picture.unconfirmed,
        "problems": [error_body(problem) for problem in found.problems],
    }


def _explain(context: Context, picture: Picture, found: Assessment) -> None:
    """--why, below the first line."""
    console, daemon = context.console, picture.published
    console.line()
    if daemon is None:
        console.line(events.NOTHING)
        console.table([("pin", _pin(picture))])
    else:
        if picture.running is None:
            age = picture.ago(daemon.at)
            console.line(f"what follows is {age} old, the last that the agent has published")
        console.table(list(_reasons(picture, daemon)))
        console.line()
        console.line("last transitions" if daemon.history else events.NO_TRANSITION)
        events.show(console, daemon.history[-SHOWN:], indent=2)
    console.emit("Why", _why_body(picture, daemon, found))


def _reasons(picture: Picture, daemon: DaemonStatus) -> Iterator[tuple[Part, ...]]:
    yield "route", f"{daemon.route} {_since(picture, daemon.route_since, daemon.route_reason)}"
    yield "mirror", f"{daemon.health_state} {_since(picture, daemon.health_since, daemon.health_reason)}"
    yield "cause", daemon.health_cause or UNKNOWN
    yield "evidence", daemon.evidence or "none against the mirror"
    if picture.running is not None:
        yield from _way_back(picture, daemon)
    yield "penalty", _penalty(daemon.penalty)
    yield "pin", _pin(picture)
    yield from _symptoms(picture, daemon.symptoms)
    yield "windows", f"ping {_ms(daemon.window_ms)}, canary {_ms(daemon.canary_window_ms)}"


def _way_back(picture: Picture, daemon: DaemonStatus) -> Iterator[tuple[Part, ...]]:
    if daemon.route == "mirror":
        yield "waits for", "nothing: reads go to the mirror"
        return
    for number, what in enumerate(daemon.return_.waits_for if daemon.return_ else (UNKNOWN,)):
        yield ("waits for" if number == 0 else "", what)
    left = picture.left_s
    yield "time left", UNKNOWN if left is None else f"{in_words(left)} at least"


def _penalty(penalty: PenaltyStatus | None) -> str:
    if penalty is None:
        return UNKNOWN
    held = f"the mirror is held back until it has fallen below {penalty.reuse:.0f}"
    return f"{penalty.value:.0f}, {held if penalty.held else 'which holds nothing back'}"


def _pin(picture: Picture) -> str:
    pin = picture.valid_pin
    return f"to the {pin.route} for another {_pin_words(picture, pin)}" if pin is not None else "none"


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
        yield "", f"the last {picture.ago(last.at)} ago: {last.kind}: {last.detail}"


def _ms(value: float | None) -> str:
    return f"{value:.0f} ms" if value is not None else UNKNOWN


_SHARED = ("route", "route_since", "route_reason", "health_state", "health_since", "health_reason",
           "window_ms", "canary_window_ms", "penalty", "symptoms")  # fmt: skip
"""Fields of the daemon's publication that --why shows as they are."""


def _why_body(picture: Picture, daemon: DaemonStatus | None, found: Assessment) -> dict[str, object]:
    return {
        "headline": found.headline,
        "exit": int(found.exit),
        "agent": {"state": picture.agent, "at": daemon and daemon.at},
        **{name: daemon and getattr(daemon, name) for name in _SHARED},
        "health_cause": (daemon and daemon.health_cause) or None,
        "evidence": daemon and daemon.evidence,
        "waits_for": daemon.return_.waits_for if daemon is not None and daemon.return_ is not None else None,
        "seconds_left": picture.left_s,
        "pin": picture.valid_pin,
        "history": daemon.history[-SHOWN:] if daemon is not None else (),
    }
