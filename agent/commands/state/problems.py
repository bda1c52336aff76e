"""What is wrong on the node, and what could not be told. Pure: the picture in, errors with their way out.

The cause comes before what follows from it.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent import paths
from agent.commands.state.picture import Agent, Picture
from agent.commands.state.published import Unreadable
from agent.console import counted
from agent.documents.applied import CheckResult, EffectiveDocument, ProofDocument
from agent.documents.status import ConditionStatus, DaemonStatus
from agent.durations import in_words
from agent.errors import AgentError
from agent.plan import mounts

OLD_PROOF_S = 3600.0
"""The checks run every few minutes; a proof older than this proves nothing about now."""

OVERDUE_S = 300.0

_DOCTOR = "sudo nydus-agent doctor"

_PORT = "EndpointPortTaken"
"""The catalogue's own advice serves better here."""
_CODES = {
    "ConfigInvalid": "NNA0101",
    "BothBad": "NNA1016",
    "ForeignListener": "NNA1019",
    "RepairGaveUp": "NNA0441",
}
"""The daemon's conditions that have a code of their own."""


def problems(picture: Picture) -> Iterator[AgentError]:
    """What is known to be wrong."""
    if picture.config_error is not None:
        yield picture.config_error
    daemon, proof = picture.daemon, picture.proof
    if picture.agent is Agent.NOT_INSTALLED:
        yield AgentError("NNA1010", "the agent is not installed", try_="apt install nydus-node-agent")
    elif picture.agent in (Agent.STOPPED, Agent.GONE):
        cause = (
            f"pid {daemon.pid} is gone"
            if isinstance(daemon, DaemonStatus)
            else f"{paths.STATUS} is not there"
        )
        start = f"sudo systemctl start {paths.AGENT_UNIT}"
        yield AgentError("NNA1010", "the agent is not running", cause=cause, try_=start)
    elif picture.agent is Agent.RUNNING and isinstance(daemon, DaemonStatus):
        if picture.not_written:
            what = "the agent lives, but cannot publish what it sees: this is what it told on its socket"
            yield AgentError("NNA1018", what, cause=picture.not_written, try_=f"df -h {paths.RUN_DIR}")
        yield from _mode(picture, daemon)
        yield from _mirror(picture, daemon)
        yield from _origins(daemon)
        yield from (
            _condition(picture, one)
            for one in daemon.conditions
            if one.status == "True" and _is_news(picture, one)
        )
    yield from _not_taken_back(picture)
    yield from picture.leftovers.problems()
    if picture.effective is not None and isinstance(proof, ProofDocument):
        # What follows from it is in the proof.
        yield from (_check(check, "failed") for check in proof.failed[:1])
        yield from _pending(picture, proof)
        yield from _unrenewed(proof)
    if picture.effective is not None:
        yield from (
            AgentError("NNA0441", one.what, seen=one.evidence, try_=one.try_) for one in picture.drift
        )


def doubts(picture: Picture) -> Iterator[AgentError]:
    """What could not be told."""
    daemon, proof = picture.daemon, picture.proof
    if picture.agent is Agent.SILENT and isinstance(daemon, DaemonStatus):
        silence = f"pid {daemon.pid} lives, its last publication is {in_words(picture.age(daemon.at))} old"
        restart = f"sudo systemctl restart {paths.AGENT_UNIT}"
        yield AgentError("NNA1012", "the agent publishes nothing", cause=silence, try_=restart)
    if picture.agent is Agent.RUNNING and isinstance(daemon, DaemonStatus):
        yield from (_condition(picture, one) for one in daemon.conditions if one.status == "Unknown")
    yield from (
        _unreadable(file) for file in (daemon, picture.effective, proof) if isinstance(file, Unreadable)
    )
    if picture.effective is None:
        return
    if proof is None:
        cause = "the checks did not run since the change"
        yield AgentError("NNA1017", "nothing was proved yet", cause=cause, try_=_DOCTOR)
    elif isinstance(proof, ProofDocument):
        yield from (_check(check, "could not be told") for check in proof.checks if check.state == "unknown")
        if proof.unseen:
            what = "it is not known whether all is as it was applied"
            yield AgentError(
                "NNA1017", what, cause="not all could be looked at", seen=proof.unseen, try_=_DOCTOR
            )
        if picture.age(proof.at) > OLD_PROOF_S:
            cause = f"the last proof was {in_words(picture.age(proof.at))} ago"
            timer = paths.INSPECT_UNIT.replace(".service", ".timer")
            yield AgentError("NNA1017", "the proof is old", cause=cause, try_=f"systemctl status {timer}")


def _not_taken_back(picture: Picture) -> Iterator[AgentError]:
    """It takes a while; longer than this it goes wrong, and each try left its reason in the journal."""
    waits = picture.unconfirmed
    if waits is not None and waits.late_s > OVERDUE_S:
        what = f"generation {waits.generation} was not confirmed and is still there"
        cause = f"it should have been taken back {in_words(waits.late_s)} ago"
        yield AgentError("NNA0417", what, cause=cause, try_="journalctl -u nydus-agent-rollback")


def _unreadable(file: Unreadable) -> AgentError:
    action = "sudo nydus-agent status" if file.permission else f"ls -l {file.path}"
    return AgentError(
        "NNA1012", "what was published cannot be read", cause=f"{file.path}: {file.reason}", try_=action
    )


def _mode(picture: Picture, daemon: DaemonStatus) -> Iterator[AgentError]:
    applied = picture.effective
    if daemon.mode == "native" and isinstance(applied, EffectiveDocument) and applied.switch == "fence":
        what = "the mode is native although the node was set up for the fence"
        yield AgentError("NNA1018", what, cause=daemon.mode_reason, try_=_DOCTOR)
    if daemon.pin is not None and daemon.mode != "fence":
        what = f"the pin to the {daemon.pin.route} has no effect"
        cause = f"only the fence can move reads; the mode is {daemon.mode}: {daemon.mode_reason}"
        yield AgentError("NNA1004", what, cause=cause, try_="sudo nydus-agent route auto")


def _mirror(picture: Picture, daemon: DaemonStatus) -> Iterator[AgentError]:
    if daemon.mirror.owner == "foreign" and not _holds(daemon, "ForeignListener"):
        what = "the listener on the mirror's port is not the mirror's"
        yield AgentError("NNA1019", what, cause=daemon.mirror.owner_detail, try_="sudo ss -tlnp")
    if daemon.health_state in ("down", "suspect"):
        seen = tuple(
            f"{in_words(picture.age(change.at))} ago: {change.from_} -> {change.to}: {change.evidence}"
            for change in daemon.history[-3:]
            if change.evidence
        )
        what = f"the mirror is {daemon.health_state}"
        yield AgentError("NNA1014", what, cause=daemon.health_reason, seen=seen, try_=_DOCTOR)


def _origins(daemon: DaemonStatus) -> Iterator[AgentError]:
    bad = ", ".join(origin.host for origin in daemon.origins if origin.ok is False)
    if bad and not _holds(daemon, "BothBad"):
        cause = "while an origin is bad the mirror is not fenced: a slow mirror is better than none"
        yield AgentError("NNA1016", f"the origin does not answer: {bad}", cause=cause)


def _holds(daemon: DaemonStatus, kind: str) -> bool:
    return any(one.type == kind and one.status == "True" for one in daemon.conditions)


def _is_news(picture: Picture, condition: ConditionStatus) -> bool:
    """A configuration that is still wrong was told already, with every problem, and drift is, finding by
    finding.
    """
    if condition.type == "Drift" and picture.drift:
        return False
    return condition.type != "ConfigInvalid" or picture.config_error is None


def _condition(picture: Picture, condition: ConditionStatus) -> AgentError:
    code = _CODES.get(condition.type, "NNA1018") if condition.status == "True" else "NNA1017"
    since = (f"since {in_words(picture.age(condition.since))}",) if condition.since else ()
    what = f"{condition.type}: {condition.message or condition.reason or condition.status}"
    cause = condition.reason if condition.message else ""
    return AgentError(
        code,
        what,
        cause=cause,
        seen=since,
        try_=_DOCTOR if code == "NNA1018" and condition.type != _PORT else "",
    )


def _check(check: CheckResult, outcome: str) -> AgentError:
    code = check.code or ("NNA1018" if check.state == "failed" else "NNA1017")
    what = f"check {check.number} ({check.name}) {outcome}: {check.detail}"
    return AgentError(code, what, cause=check.cause, seen=check.evidence, try_=check.try_)


def _pending(picture: Picture, proof: ProofDocument) -> Iterator[AgentError]:
    if not proof.pending:
        return
    cause = "it was changed, or something on the node was, and nydus-agent apply has not run since"
    if isinstance(picture.effective, EffectiveDocument) and picture.effective.rolled_back_to:
        cause = f"the node was rolled back to generation {picture.effective.rolled_back_to}"
    what = "the configuration wants other than is in force"
    yield AgentError("NNA1013", what, cause=cause, seen=proof.pending, try_="sudo nydus-agent plan")


def _unrenewed(proof: ProofDocument) -> Iterator[AgentError]:
    if proof.unrenewed:
        what = (
            f"{counted(len(proof.unrenewed), 'image')} in use with a credential that expires and is not "
            f"renewed"
        )
        yield AgentError(
            "NNA1207", what, cause=mounts.RENEWAL_COST, seen=proof.unrenewed, try_=mounts.RENEWAL_TRY
        )
