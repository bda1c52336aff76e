"""From the picture to a verdict in words, an exit code and the problems. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent import paths
from agent.commands.picture import Agent, Picture
from agent.commands.published import Climb, DaemonStatus, EffectiveStatus, Pin, Unreadable, text
from agent.console import Tone
from agent.durations import in_words
from agent.errors import AgentError, Exit

OLD_PROOF_S = 3600.0
"""The ladder is climbed every few minutes; a proof older than this proves nothing about now."""

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
    problems = tuple(_problems(picture))
    if exit_ is Exit.OK and problems:
        exit_ = Exit.NOT_AS_WANTED if any(_is_certain(problem) for problem in problems) else Exit.UNKNOWN
    tone = {Exit.OK: Tone.GOOD, Exit.UNKNOWN: Tone.WARN}.get(exit_, Tone.BAD)
    return Assessment(headline, tone, exit_, problems)


def _is_certain(problem: AgentError) -> bool:
    """Whether something is known to be wrong, as against not known to be right."""
    return problem.code != "NNA1017"


def _headline(picture: Picture) -> tuple[str, Exit]:
    daemon = picture.daemon
    if picture.agent is Agent.NOT_INSTALLED:
        return f"not installed on this node: there is no {paths.AGENT_UNIT}", Exit.UNKNOWN
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
        return f"could not tell: the agent (pid {daemon.pid}) lives but has published nothing for {age}", Exit.UNKNOWN
    return f"agent is not running: published {age} ago, pid {daemon.pid} is gone: {FALLBACK}", Exit.NOT_AS_WANTED


def _running(picture: Picture, daemon: DaemonStatus) -> tuple[str, Exit]:
    since = f"since {in_words(picture.age(daemon.verdict_since))}"
    if daemon.pin is not None:
        return _pinned(picture, daemon, daemon.pin)
    if daemon.route == "origin":
        since = f"since {in_words(picture.age(daemon.route_since))}"
        why = daemon.route_reason or daemon.verdict_reason
        return f"reads go to the origin {since}: mirror {daemon.verdict}: {why}", Exit.NOT_AS_WANTED
    if daemon.verdict == "down":
        stay = f"reads stay on the mirror: {daemon.route_reason}" if daemon.route_reason else FALLBACK
        return f"mirror is down {since}: {daemon.verdict_reason}; {stay}", Exit.NOT_AS_WANTED
    climb = picture.climb
    if isinstance(climb, Climb) and climb.failed:
        rung = climb.failed[0]
        return f"not proved: rung {rung.number} ({rung.name}) failed: {rung.detail}", Exit.NOT_AS_WANTED
    if daemon.verdict == "suspect":
        return f"mirror is suspected {since}: {daemon.verdict_reason}", Exit.NOT_AS_WANTED
    if daemon.verdict not in ("healthy", "probation") or daemon.route != "mirror":
        return f"could not tell yet: {daemon.verdict_reason or 'the agent has not judged the mirror'}", Exit.UNKNOWN
    return f"serving from mirror, {_proof(picture)}", Exit.OK


def _pinned(picture: Picture, daemon: DaemonStatus, pin: Pin) -> tuple[str, Exit]:
    left = in_words(pin.until - picture.now)
    why = f" ({pin.reason})" if pin.reason else ""
    head = f"reads are pinned to the {pin.route} by {pin.by or 'root'} for another {left}{why}"
    if pin.route == "mirror" and daemon.verdict in ("healthy", "probation"):
        return head, Exit.OK
    return f"{head}; mirror {daemon.verdict}: {daemon.verdict_reason}", Exit.NOT_AS_WANTED


def _proof(picture: Picture) -> str:
    """When and by what the real read was proved, or what is known instead."""
    climb = picture.climb
    if not isinstance(climb, Climb) or not climb.rungs:
        return "not proved yet"
    age = in_words(picture.age(climb.at))
    last = climb.rungs[-1]
    if last.state == "ok":
        return f"proved {age} ago by {last.detail}" if last.detail else f"proved {age} ago"
    return f"a lazy read is not proved yet: {last.detail or last.name}"


def _problems(picture: Picture) -> Iterator[AgentError]:
    """What is wrong, the cause before what follows from it."""
    if picture.config_error is not None:
        yield picture.config_error
    yield from _agent_problems(picture)
    if picture.agent is Agent.RUNNING and isinstance(picture.daemon, DaemonStatus):
        yield from _daemon_problems(picture, picture.daemon)
    if isinstance(picture.effective, Unreadable):
        yield _unreadable(picture.effective)
    if picture.effective is not None:
        yield from _climb_problems(picture)


def _unreadable(file: Unreadable) -> AgentError:
    action = f"ls -l {file.path}" if not file.permission else "sudo nydus-agent status"
    return AgentError("NNA1012", "what was published cannot be read", cause=f"{file.path}: {file.reason}", try_=action)


def _agent_problems(picture: Picture) -> Iterator[AgentError]:
    daemon = picture.daemon
    if picture.agent is Agent.NOT_INSTALLED:
        yield AgentError("NNA1010", "the agent is not installed", try_="apt install nydus-node-agent")
    elif isinstance(daemon, Unreadable):
        yield _unreadable(daemon)
    elif daemon is None or picture.agent is Agent.GONE:
        cause = f"{paths.STATUS} is not there" if daemon is None else f"pid {daemon.pid} is gone"
        yield AgentError(
            "NNA1010",
            "the agent is not running",
            cause=cause,
            try_=f"sudo systemctl start {paths.AGENT_UNIT}",
        )
    elif picture.agent is Agent.SILENT:
        yield AgentError(
            "NNA1011",
            "the agent publishes nothing",
            cause=f"pid {daemon.pid} lives, its last publication is {in_words(picture.age(daemon.at))} old",
            try_=f"sudo systemctl restart {paths.AGENT_UNIT}",
        )


def _daemon_problems(picture: Picture, daemon: DaemonStatus) -> Iterator[AgentError]:
    if (
        daemon.mode == "native"
        and isinstance(picture.effective, EffectiveStatus)
        and picture.effective.switch == "fence"
    ):
        yield AgentError(
            "NNA1018",
            "the mode is native although the node was set up for the fence",
            cause=daemon.mode_reason,
            try_="sudo nydus-agent doctor",
        )
    if text(daemon.mirror, "owner") == "foreign":
        yield AgentError(
            "NNA1019",
            "the listener on the mirror's port is not the mirror's",
            cause=text(daemon.mirror, "owner_detail"),
            try_="sudo ss -tlnp",
        )
    if daemon.verdict in ("down", "suspect"):
        seen = tuple(
            f"{in_words(picture.age(change.at))} ago: {change.from_} -> {change.to}: {change.evidence}"
            for change in daemon.history[-3:]
            if change.evidence
        )
        yield AgentError(
            "NNA1014",
            f"the mirror is {daemon.verdict}",
            cause=daemon.verdict_reason,
            seen=seen,
            try_="sudo nydus-agent doctor",
        )
    bad = [origin for origin in daemon.origins if origin.get("ok") is False]
    if bad:
        hosts = ", ".join(text(origin, "host") for origin in bad)
        yield AgentError(
            "NNA1016",
            f"the origin does not answer: {hosts}",
            cause="the mirror is not fenced while its origin is bad: a slow mirror is better than none",
        )
    yield from _conditions(picture, daemon)


def _conditions(picture: Picture, daemon: DaemonStatus) -> Iterator[AgentError]:
    for condition in daemon.conditions:
        if condition.status in ("True", "Unknown") and condition.type:
            since = f"since {in_words(picture.age(condition.since))}" if condition.since else ""
            code = "NNA1018" if condition.status == "True" else "NNA1017"
            yield AgentError(
                code,
                f"{condition.type}: {condition.message or condition.reason}",
                cause=condition.reason if condition.message else "",
                seen=(since,) if since else (),
                try_="sudo nydus-agent doctor",
            )


def _climb_problems(picture: Picture) -> Iterator[AgentError]:
    climb = picture.climb
    if isinstance(climb, Unreadable):
        yield _unreadable(climb)
    elif climb is None:
        yield AgentError(
            "NNA1017",
            "nothing was proved yet",
            cause="the ladder was not climbed since the change",
            try_="sudo nydus-agent doctor",
        )
    else:
        for rung in climb.failed[:1]:  # what follows from it is in the ladder
            yield AgentError(
                rung.code or "NNA1018",
                f"rung {rung.number} ({rung.name}) failed: {rung.detail}",
                cause=rung.cause,
                seen=rung.evidence,
                try_=rung.try_,
            )
        if picture.age(climb.at) > OLD_PROOF_S:
            yield AgentError(
                "NNA1017",
                "the proof is old",
                cause=f"the last climb was {in_words(picture.age(climb.at))} ago",
                try_=f"systemctl status {paths.INSPECT_UNIT.replace('.service', '.timer')}",
            )
