"""From the picture to the state in words, an exit code and the problems. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent import paths
from agent.commands.state import problems as wrong
from agent.commands.state.picture import Agent, Picture
from agent.commands.state.published import Unreadable
from agent.console import Tone
from agent.documents.applied import ProofDocument
from agent.documents.status import DaemonStatus, PinStatus
from agent.durations import in_words
from agent.errors import AgentError, Exit

EVIDENCE_CHARS = 120
"""Of the first line; `status --why` shows the whole."""
FALLBACK = "nydusd's own fallback protects reads"


@dataclass(frozen=True, slots=True)
class Assessment:
    """The first line, what it means for the exit code, and everything that is wrong."""

    headline: str
    tone: Tone
    exit: Exit
    problems: tuple[AgentError, ...]


def assess(picture: Picture) -> Assessment:
    """The whole answer of `status`."""
    headline, exit_ = _headline(picture)
    problems, doubts = tuple(wrong.problems(picture)), tuple(wrong.doubts(picture))
    if exit_ is Exit.OK and (problems or doubts):
        exit_ = Exit.NOT_AS_WANTED if problems else Exit.UNKNOWN
    tone = {Exit.OK: Tone.GOOD, Exit.UNKNOWN: Tone.WARN}.get(exit_, Tone.BAD)
    return Assessment(headline, tone, exit_, (*problems, *doubts))


def _headline(picture: Picture) -> tuple[str, Exit]:
    daemon = picture.daemon
    if picture.agent is Agent.NOT_INSTALLED:
        return f"not installed on this node: there is no {paths.AGENT_UNIT}", Exit.NOT_AS_WANTED
    if isinstance(daemon, Unreadable):
        return f"could not tell: {daemon.path}: {daemon.reason}", Exit.UNKNOWN
    if picture.effective is None:
        also = "" if picture.agent is Agent.RUNNING else " (the agent is not running either)"
        return f"not applied yet: run nydus-agent plan{also}", Exit.NOT_AS_WANTED
    if daemon is None:
        return f"agent is not running: {FALLBACK}", Exit.NOT_AS_WANTED
    if picture.agent is not Agent.RUNNING:
        return _not_running(picture, daemon)
    return _running(picture, daemon)


def _not_running(picture: Picture, daemon: DaemonStatus) -> tuple[str, Exit]:
    age = in_words(picture.age(daemon.at))
    if picture.agent is Agent.SILENT:
        return (
            f"could not tell: the agent (pid {daemon.pid}) lives but has published nothing for {age}",
            Exit.UNKNOWN,
        )
    return (
        f"agent is not running: published {age} ago, pid {daemon.pid} is gone: {FALLBACK}",
        Exit.NOT_AS_WANTED,
    )


def _running(picture: Picture, daemon: DaemonStatus) -> tuple[str, Exit]:
    since = f"since {in_words(picture.age(daemon.health_since))}"
    if daemon.pin is not None and daemon.mode == "fence":
        return _pinned(picture, daemon, daemon.pin)
    if daemon.route == "origin":
        since = f"since {in_words(picture.age(daemon.route_since))}"
        reasons = (daemon.health_reason, daemon.route_reason)
        why = "; ".join(filter(None, reasons)) if daemon.mode == "native" else reasons[1] or reasons[0]
        return (
            f"reads go to the origin {since}: mirror {daemon.health_state}: {why}{_seen(daemon)}",
            Exit.NOT_AS_WANTED,
        )
    if daemon.health_state == "down":
        stay = f"reads stay on the mirror: {daemon.route_reason}" if daemon.route_reason else FALLBACK
        return f"mirror is down {since}: {daemon.health_reason}{_seen(daemon)}; {stay}", Exit.NOT_AS_WANTED
    proof = picture.proof
    if isinstance(proof, ProofDocument) and proof.failed:
        check = proof.failed[0]
        return f"not proved: check {check.number} ({check.name}) failed: {check.detail}", Exit.NOT_AS_WANTED
    if daemon.health_state == "suspect":
        return f"mirror is suspected {since}: {daemon.health_reason}{_seen(daemon)}", Exit.NOT_AS_WANTED
    if daemon.health_state not in ("healthy", "probation") or daemon.route != "mirror":
        return (
            f"could not tell yet: {daemon.health_reason or 'the agent has not judged the mirror'}",
            Exit.UNKNOWN,
        )
    for one in daemon.conditions:
        if one.type == "ReadsGoAround" and one.status == "True":
            since = f"since {in_words(picture.age(one.since))}"
            return f"reads go around the mirror {since}: {one.message}", Exit.NOT_AS_WANTED
        if one.type == "ReadsRefused" and one.status == "True":
            return (
                f"the mirror refuses reads since {in_words(picture.age(one.since))}: {one.message}",
                Exit.NOT_AS_WANTED,
            )
    if picture.drift:
        first, more = picture.drift[0].what, len(picture.drift) - 1
        also = f", and {more} more" if more else ""
        return f"serving from mirror, but not as applied: {first}{also}", Exit.NOT_AS_WANTED
    return f"serving from mirror, {_proof(picture)}", Exit.OK


def _seen(daemon: DaemonStatus) -> str:
    """The evidence in brackets: a reason such as "canary status" alone does not say that it was a 429."""
    text = daemon.evidence
    if not text or text in daemon.health_reason:
        return ""
    return f" ({text if len(text) <= EVIDENCE_CHARS else text[: EVIDENCE_CHARS - 1] + '…'})"


def _pinned(picture: Picture, daemon: DaemonStatus, pin: PinStatus) -> tuple[str, Exit]:
    left = in_words(pin.until - picture.now)
    why = f" ({pin.reason})" if pin.reason else ""
    head = f"reads are pinned to the {pin.route} by {pin.by or 'root'} for another {left}{why}"
    if pin.route == "mirror" and daemon.health_state in ("healthy", "probation"):
        return head, Exit.OK
    return f"{head}; mirror {daemon.health_state}: {daemon.health_reason}", Exit.NOT_AS_WANTED


def _proof(picture: Picture) -> str:
    """When and by what the real read was proved, or what is known instead."""
    proof = picture.proof
    if not isinstance(proof, ProofDocument) or not proof.checks:
        return "not proved yet"
    age = in_words(picture.age(proof.at))
    last = proof.checks[-1]
    if last.state == "ok":
        return f"proved {age} ago by {last.detail}" if last.detail else f"proved {age} ago"
    return f"a lazy read is not proved yet: {last.detail or last.name}"
