"""Whether a change may begin now: it may have to wait, because it restarts what others stand on.

A change is one piece. Where its restart must not be made, nothing of it is: a containerd configuration on the
disk that is not the one that runs would come into force at somebody else's restart, unannounced and unproved.

The account of the restarts that we make is root's file in /var/lib, so that it survives a reboot. A restart
is on the disk before it is made: one that is killed in the middle counts too.
"""

from __future__ import annotations

import enum
from dataclasses import replace

from agent import paths
from agent.codec import to_document
from agent.config.model import Config, RestartPolicy
from agent.durations import in_words
from agent.errors import ApplyError
from agent.plan import limits
from agent.plan.limits import NotBefore, Restart, RestartAccount, RestartBudget
from agent.ports import Files, Ports
from agent.records import json_files
from agent.steps import Plan, UnitStep, UnitVerb


class Urgency(enum.Enum):
    """Who wants the change."""

    BY_ITSELF = enum.auto()
    """Nobody is there: an installation, a boot, a repair."""
    BY_HAND = enum.auto()
    NOW = enum.auto()
    """Somebody who takes the restarts upon himself."""


def check(config: Config, ports: Ports, plan: Plan, urgency: Urgency, verb: str = "apply") -> None:
    """Raises ApplyError NNA0416 (containerd's restart is left to the operator), NNA0415 (too many
    restarts).
    """
    if urgency is Urgency.NOW:
        return
    if config.containerd.restart is RestartPolicy.NEVER and config.containerd.unit in restarted(plan):
        raise ApplyError(
            "NNA0416", "a change is pending that needs a restart of containerd; nothing was changed",
            cause="[containerd] restart = never: when that is, you say", try_=f"nydus-agent {verb} --now",
        )  # fmt: skip
    per_hour = config.apply.restarts_per_hour
    policy = limits.by_hand(per_hour) if urgency is Urgency.BY_HAND else limits.by_itself(per_hour)
    wait = held(ports, plan, policy)
    if wait is not None:
        refuse(wait, verb)


def wanted(config: Config, urgency: Urgency) -> Config:
    """The configuration for a change with this urgency: who asks for the restart now is not told that it is
    due.
    """
    if urgency is not Urgency.NOW:
        return config
    return replace(config, containerd=replace(config.containerd, restart=RestartPolicy.AUTO))


def note_restart(ports: Ports, unit: str) -> None:
    """`unit` is about to be restarted. Raises FileError."""
    now = ports.clock.moment()
    fact = ports.files.read(paths.RESTARTS)
    account = json_files.understood(RestartAccount, fact) or RestartAccount()
    known = limits.kept_restarts(account.restarts, now)
    document = to_document(RestartAccount((*known, Restart(unit, now.now, now.boot, now.boottime))))
    json_files.replace(ports.files, paths.RESTARTS, document, found=fact, mode=0o600)


def history(files: Files) -> tuple[Restart, ...]:
    """The restarts that were made; none where the account is not there, or damaged: that must not keep a node
    from being mended. Raises FileError.
    """
    return (json_files.load(RestartAccount, files, paths.RESTARTS) or RestartAccount()).restarts


def judge(ports: Ports, unit: str, policy: RestartBudget) -> NotBefore | None:
    """Whether a unit may be restarted now; None: it may. Raises SystemdError, FileError."""
    fact = ports.units.get(unit)
    if fact is None:
        return None  # what is not there is not restarted
    return limits.why_wait(fact, history(ports.files), ports.clock.moment(), policy)


def restarted(plan: Plan) -> tuple[str, ...]:
    """The units that a plan restarts, in its order."""
    return tuple(
        step.unit for step in plan.steps if isinstance(step, UnitStep) and step.verb is UnitVerb.RESTART
    )


def begun_anew(plan: Plan) -> frozenset[str]:
    """The units of which something new runs after it."""
    verbs = (UnitVerb.START, UnitVerb.RESTART)
    return frozenset(step.unit for step in plan.steps if isinstance(step, UnitStep) and step.verb in verbs)


def held(ports: Ports, plan: Plan, policy: RestartBudget) -> NotBefore | None:
    """The judgement that lets a plan wait longest; None where it may begin now.

    Raises SystemdError, FileError.
    """
    waits = [one for unit in restarted(plan) if (one := judge(ports, unit, policy)) is not None]
    return max(waits, key=lambda one: one.seconds) if waits else None


def refuse(waits: NotBefore, verb: str = "apply") -> None:
    """Raises ApplyError NNA0415."""
    raise ApplyError(
        "NNA0415", f"the change has to wait for {in_words(waits.seconds + 1)}: it would restart too much",
        cause=waits.reason, try_=f"nydus-agent {verb} --now",
    )  # fmt: skip
