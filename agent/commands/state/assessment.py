"""From the picture to the state in words, an exit code, what is wrong and what could not be told. Pure.

The cause comes before what follows from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent import paths
from agent.commands.state.picture import Agent, Picture, Unreadable
from agent.console import Tone, counted
from agent.documents.status import CheckResult, ConditionStatus, DaemonStatus, PinStatus, ProofDocument
from agent.durations import in_words
from agent.errors import AgentError, Exit
from agent.plan import mounts

EVIDENCE_CHARS = 120
"""Of the first line; `status --why` shows the whole."""
FALLBACK = "nydusd's own fallback protects reads"
OLD_PROOF_S = 3600.0
"""The checks run every few minutes; a proof older than this proves nothing about now."""
OVERDUE_S = 300.0
"""To take a change back takes a while; longer than this it goes wrong."""
_DOCTOR = "sudo nydus-agent doctor"
_CODES = {
    "ConfigInvalid": "NNA0101",
    "BothBad": "NNA1016",
    "ForeignListener": "NNA1019",
    "RepairGaveUp": "NNA0441",
}
"""The daemon's conditions that have a code of their own."""


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
    wrong, doubts = tuple(_problems(picture)), tuple(_doubts(picture))
    if exit_ is Exit.OK and (wrong or doubts):
        exit_ = Exit.NOT_AS_WANTED if wrong else Exit.UNKNOWN
    tone = {Exit.OK: Tone.GOOD, Exit.UNKNOWN: Tone.WARN}.get(exit_, Tone.BAD)
    return Assessment(headline, tone, exit_, (*wrong, *doubts))


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
    age = picture.ago(daemon.at)
    if picture.agent is Agent.SILENT:
        silent = f"the agent (pid {daemon.pid}) lives but has published nothing for {age}"
        return f"could not tell: {silent}", Exit.UNKNOWN
    if picture.agent is not Agent.RUNNING:
        gone = f"published {age} ago, pid {daemon.pid} is gone"
        return f"agent is not running: {gone}: {FALLBACK}", Exit.NOT_AS_WANTED
    if daemon.pin is not None and daemon.mode == "fence":
        return _pinned(picture, daemon, daemon.pin)
    bad = _where_reads_go(picture, daemon)
    if bad:
        return bad, Exit.NOT_AS_WANTED
    if daemon.health_state not in ("healthy", "probation") or daemon.route != "mirror":
        reason = daemon.health_reason or "the agent has not judged the mirror"
        return f"could not tell yet: {reason}", Exit.UNKNOWN
    bad = _what_reads_met(picture, daemon)
    if bad:
        return bad, Exit.NOT_AS_WANTED
    return f"serving from mirror, {_proof(picture)}", Exit.OK


def _where_reads_go(picture: Picture, daemon: DaemonStatus) -> str:
    """The headline of a mirror that is not well, or of a proof that failed; "" = neither."""
    since = f"since {picture.ago(daemon.health_since)}"
    if daemon.route == "origin":
        since = f"since {picture.ago(daemon.route_since)}"
        reasons = (daemon.health_reason, daemon.route_reason)
        why = "; ".join(filter(None, reasons)) if daemon.mode == "native" else reasons[1] or reasons[0]
        return f"reads go to the origin {since}: mirror {daemon.health_state}: {why}{_seen(daemon)}"
    if daemon.health_state == "down":
        stay = f"reads stay on the mirror: {daemon.route_reason}" if daemon.route_reason else FALLBACK
        return f"mirror is down {since}: {daemon.health_reason}{_seen(daemon)}; {stay}"
    if picture.proved is not None and picture.proved.failed:
        check = picture.proved.failed[0]
        return f"not proved: check {check.number} ({check.name}) failed: {check.detail}"
    if daemon.health_state == "suspect":
        return f"mirror is suspected {since}: {daemon.health_reason}{_seen(daemon)}"
    return ""


def _what_reads_met(picture: Picture, daemon: DaemonStatus) -> str:
    """The headline of a mirror that is well and yet not all that was wanted; "" = nothing."""
    for one in daemon.conditions:
        if one.type == "ReadsGoAround" and one.holds:
            return f"reads go around the mirror since {picture.ago(one.since)}: {one.message}"
        if one.type == "ReadsRefused" and one.holds:
            return f"the mirror refuses reads since {picture.ago(one.since)}: {one.message}"
    if not picture.drift:
        return ""
    more = len(picture.drift) - 1
    also = f", and {more} more" if more else ""
    return f"serving from mirror, but not as applied: {picture.drift[0].what}{also}"


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
    proof = picture.proved
    if proof is None or not proof.checks:
        return "not proved yet"
    last = proof.checks[-1]
    if last.state == "ok":
        return f"proved {picture.ago(proof.at)} ago" + (f" by {last.detail}" if last.detail else "")
    return f"a lazy read is not proved yet: {last.detail or last.name}"


def _problems(picture: Picture) -> Iterator[AgentError]:
    """What is known to be wrong."""
    if picture.agent is Agent.NOT_INSTALLED:
        yield AgentError("NNA1010", "the agent is not installed", try_="apt install nydus-node-agent")
    elif picture.agent in (Agent.STOPPED, Agent.GONE):
        last = picture.published
        cause = f"pid {last.pid} is gone" if last is not None else f"{paths.STATUS} is not there"
        start = f"sudo systemctl start {paths.AGENT_UNIT}"
        yield AgentError("NNA1010", "the agent is not running", cause=cause, try_=start)
    if picture.not_written:
        what = "the agent lives, but cannot publish what it sees: this is what it told on its socket"
        yield AgentError("NNA1018", what, cause=picture.not_written, try_=f"df -h {paths.RUN_DIR}")
    if picture.running is not None:
        yield from _of_the_daemon(picture, picture.running)
    waits = picture.unconfirmed
    if waits is not None and waits.late_s > OVERDUE_S:  # each try left its reason in the journal
        what = f"generation {waits.generation} was not confirmed and is still there"
        cause = f"it should have been taken back {in_words(waits.late_s)} ago"
        yield AgentError("NNA0417", what, cause=cause, try_="journalctl -u nydus-agent-rollback")
    if picture.leftovers is not None:
        yield from picture.leftovers.problems()
    if picture.effective is not None:
        if picture.proved is not None:
            yield from _of_the_proof(picture, picture.proved)
        yield from (
            AgentError("NNA0441", one.what, seen=one.evidence, try_=one.try_) for one in picture.drift
        )


def _of_the_daemon(picture: Picture, daemon: DaemonStatus) -> Iterator[AgentError]:
    """What a living daemon tells."""
    held = {one.type: one for one in daemon.conditions if one.holds}
    if daemon.mode == "native" and picture.applied is not None and picture.applied.switch == "fence":
        what = "the mode is native although the node was set up for the fence"
        yield AgentError("NNA1018", what, cause=daemon.mode_reason, try_=_DOCTOR)
    if daemon.pin is not None and daemon.mode != "fence":
        what = f"the pin to the {daemon.pin.route} has no effect"
        cause = f"only the fence can move reads; the mode is {daemon.mode}: {daemon.mode_reason}"
        yield AgentError("NNA1004", what, cause=cause, try_="sudo nydus-agent route auto")
    if daemon.mirror.owner == "foreign" and "ForeignListener" not in held:
        what = "the listener on the mirror's port is not the mirror's"
        yield AgentError("NNA1019", what, cause=daemon.mirror.owner_detail, try_="sudo ss -tlnp")
    if daemon.health_state in ("down", "suspect"):
        seen = tuple(
            f"{picture.ago(change.at)} ago: {change.from_} -> {change.to}: {change.evidence}"
            for change in daemon.history[-3:]
            if change.evidence
        )
        what = f"the mirror is {daemon.health_state}"
        yield AgentError("NNA1014", what, cause=daemon.health_reason, seen=seen, try_=_DOCTOR)
    bad = ", ".join(origin.host for origin in daemon.origins if origin.ok is False)
    if bad and "BothBad" not in held:
        cause = "while an origin is bad the mirror is not fenced: a slow mirror is better than none"
        yield AgentError("NNA1016", f"the origin does not answer: {bad}", cause=cause)
    if picture.drift:
        held.pop("Drift", None)  # it is told finding by finding
    yield from (_condition(picture, one, _CODES.get(one.type, "NNA1018")) for one in held.values())


def _of_the_proof(picture: Picture, proof: ProofDocument) -> Iterator[AgentError]:
    """The first check that failed (what follows from it is in the proof), and what else root has found."""
    yield from (_check(check, "failed") for check in proof.failed[:1])
    if proof.pending:
        cause = "it was changed, or something on the node was, and nydus-agent apply has not run since"
        if picture.applied is not None and picture.applied.rolled_back_to:
            cause = f"the node was rolled back to generation {picture.applied.rolled_back_to}"
        what = "the configuration wants other than is in force"
        yield AgentError("NNA1013", what, cause=cause, seen=proof.pending, try_="sudo nydus-agent plan")
    if proof.unrenewed:
        images = counted(len(proof.unrenewed), "image")
        what = f"{images} in use with a credential that expires and is not renewed"
        yield AgentError(
            "NNA1207", what, cause=mounts.RENEWAL_COST, seen=proof.unrenewed, try_=mounts.RENEWAL_TRY
        )


def _doubts(picture: Picture) -> Iterator[AgentError]:
    """What could not be told."""
    last, proof = picture.published, picture.proof
    if picture.agent is Agent.SILENT and last is not None:
        silence = f"pid {last.pid} lives, its last publication is {picture.ago(last.at)} old"
        restart = f"sudo systemctl restart {paths.AGENT_UNIT}"
        yield AgentError("NNA1012", "the agent publishes nothing", cause=silence, try_=restart)
    if picture.running is not None:
        unknown = (one for one in picture.running.conditions if one.status == "Unknown")
        yield from (_condition(picture, one, "NNA1017") for one in unknown)
    for file in (picture.daemon, picture.effective, proof):
        if isinstance(file, Unreadable):
            action = "sudo nydus-agent status" if file.permission else f"ls -l {file.path}"
            cause = f"{file.path}: {file.reason}"
            yield AgentError("NNA1012", "what was published cannot be read", cause=cause, try_=action)
    if picture.effective is None:
        return
    if proof is None:
        cause = "the checks did not run since the change"
        yield AgentError("NNA1017", "nothing was proved yet", cause=cause, try_=_DOCTOR)
    elif isinstance(proof, ProofDocument):
        yield from (_check(check, "could not be told") for check in proof.checks if check.state == "unknown")
        if proof.unseen:
            what, cause = "it is not known whether all is as it was applied", "not all could be looked at"
            yield AgentError("NNA1017", what, cause=cause, seen=proof.unseen, try_=_DOCTOR)
        if picture.age(proof.at) > OLD_PROOF_S:
            cause = f"the last proof was {picture.ago(proof.at)} ago"
            timer = paths.INSPECT_UNIT.replace(".service", ".timer")
            yield AgentError("NNA1017", "the proof is old", cause=cause, try_=f"systemctl status {timer}")


def _condition(picture: Picture, condition: ConditionStatus, code: str) -> AgentError:
    since = (f"since {picture.ago(condition.since)}",) if condition.since else ()
    what = f"{condition.type}: {condition.message or condition.reason or condition.status}"
    cause = condition.reason if condition.message else ""
    # For the port of the endpoint the catalogue's own advice serves better.
    doctor = code == "NNA1018" and condition.type != "EndpointPortTaken"
    return AgentError(code, what, cause=cause, seen=since, try_=_DOCTOR if doctor else "")


def _check(check: CheckResult, outcome: str) -> AgentError:
    code = check.code or ("NNA1018" if check.state == "failed" else "NNA1017")
    what = f"check {check.number} ({check.name}) {outcome}: {check.detail}"
    return AgentError(code, what, cause=check.cause, seen=check.evidence, try_=check.try_)
