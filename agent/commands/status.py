"""`nydus-agent status`: the state in words, then the details, then what is wrong.

No root, no daemon needed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

from agent.commands.context import Context
from agent.commands.state import why
from agent.commands.state.headline import Assessment, assess
from agent.commands.state.picture import Agent, Picture, take
from agent.commands.state.published import Unreadable
from agent.console import Part, Tone, Toned, error_body, error_lines
from agent.documents.applied import EffectiveDocument, ProofDocument
from agent.documents.status import DaemonStatus, FenceStatus, MirrorStatus
from agent.durations import in_words
from agent.errors import Exit

HELP = "say where reads go and what was proved"
NEEDS_ROOT = False

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
        why.explain(context, picture, found)
        return found.exit
    rows = list(_rows(picture))
    if rows:
        console.line()
        console.table(rows)
    if isinstance(picture.proof, ProofDocument) and picture.proof.checks:
        console.line()
        console.line(f"proof, made {in_words(picture.age(picture.proof.at))} ago")
        console.table(list(_checks(picture.proof)), indent=2)
    if found.problems:
        console.line()
        console.line(Toned("problems", Tone.STRONG))
    for problem in found.problems:
        for parts in error_lines(problem, "problem"):
            console.line("  ", *parts)
    console.emit("Status", _body(picture, found))
    return found.exit


def _rows(picture: Picture) -> Iterator[tuple[Part, ...]]:
    daemon = picture.daemon
    if isinstance(daemon, DaemonStatus):
        yield from _daemon_rows(picture, daemon)
    if isinstance(picture.effective, EffectiveDocument):
        yield from _effective_rows(picture.effective)
        for one in picture.drift:
            yield "drift", Toned(one.kind, Tone.WARN), one.what
    if picture.unconfirmed is not None:
        left = in_words(picture.unconfirmed.left_s)
        told = Toned(f"generation {picture.unconfirmed.generation}", Tone.WARN)
        yield "unconfirmed", told, f"rolled back in {left} unless: nydus-agent confirm"


def _daemon_rows(picture: Picture, daemon: DaemonStatus) -> Iterator[tuple[Part, ...]]:
    if picture.agent is Agent.RUNNING:  # otherwise these are memories
        yield "route", daemon.route, _since(picture, daemon.route_since, daemon.route_reason)
        health_state = Toned(daemon.health_state, _TONES.get(daemon.health_state, Tone.WARN))
        yield "state", health_state, _since(picture, daemon.health_since, daemon.health_reason)
        yield "mode", daemon.mode, daemon.mode_reason
        yield ("fence", *_fence(daemon.fence))
        yield "mirror", daemon.mirror_address or "unknown", _mirror(picture, daemon.mirror)
        for origin in daemon.origins:
            yield (
                "origin",
                origin.host or "unknown",
                f"{_answer(origin.ok, origin.detail)}{_ago(picture, origin.at)}",
            )
    pin = picture.valid_pin
    if pin is None:
        yield "pin", "none", ""
    else:
        why = f": {pin.reason}" if pin.reason else ""
        yield "pin", pin.route, f"for another {in_words(pin.until - picture.now)}, by {pin.by or 'root'}{why}"
    since = f", since {in_words(picture.age(daemon.started_at))}" if daemon.started_at else ""
    running = since if picture.agent is Agent.RUNNING else ""
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
    return f", {before}{in_words(picture.age(at))} ago" if at is not None else ""


def _since(picture: Picture, at: float | None, reason: str) -> str:
    since = f"since {in_words(picture.age(at))}" if at is not None else ""
    return ": ".join(filter(None, (since, reason)))


def _checks(proof: ProofDocument) -> Iterator[tuple[Part, ...]]:
    for check in proof.checks:
        state = Toned(check.state.replace("-", " "), _TONES.get(check.state, Tone.WARN))
        yield f"{check.number:>2}", state, check.name, check.detail


def _body(picture: Picture, found: Assessment) -> dict[str, object]:
    daemon = picture.daemon if isinstance(picture.daemon, DaemonStatus) else None
    return {
        "headline": found.headline,
        "exit": int(found.exit),
        "agent": {
            "state": picture.agent,
            "age_s": round(picture.age(daemon.at), 1) if daemon else None,
        },
        "daemon": picture.daemon,
        "effective": _effective(picture.effective),
        "proof": picture.proof,
        "pin": picture.valid_pin,
        "drift": picture.drift,
        "unconfirmed": picture.unconfirmed,
        "problems": [error_body(problem) for problem in found.problems],
    }


def _effective(found: EffectiveDocument | Unreadable | None) -> EffectiveDocument | Unreadable | None:
    """0 stands for "no rollback" in this answer, as it always has."""
    if not isinstance(found, EffectiveDocument):
        return found
    return replace(found, rolled_back_to=found.rolled_back_to or 0)
