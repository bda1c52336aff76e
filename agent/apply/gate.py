"""Whether a change may begin now: it may have to wait, because it restarts what others stand on.

A change is one piece. Where its restart must not be made, nothing of it is: a containerd configuration on the
disk that is not the one that runs would come into force at somebody else's restart, unannounced and unproved.
"""

from __future__ import annotations

import enum
from dataclasses import replace

from agent.apply import restarts
from agent.config.model import Config, RestartPolicy
from agent.errors import ApplyError
from agent.plan import budget
from agent.plan.steps import Plan
from agent.ports import Ports


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
    if config.containerd.restart is RestartPolicy.NEVER and config.containerd.unit in restarts.restarted(
        plan
    ):
        raise ApplyError(
            "NNA0416", "a change is pending that needs a restart of containerd; nothing was changed",
            cause="[containerd] restart = never: when that is, you say", try_=f"nydus-agent {verb} --now",
        )  # fmt: skip
    per_hour = config.apply.restarts_per_hour
    policy = budget.by_hand(per_hour) if urgency is Urgency.BY_HAND else budget.by_itself(per_hour)
    wait = restarts.held(ports, plan, policy)
    if wait is not None:
        restarts.refuse(wait, verb)


def wanted(config: Config, urgency: Urgency) -> Config:
    """The configuration for a change with this urgency: who asks for the restart now is not told that it is
    due.
    """
    if urgency is not Urgency.NOW:
        return config
    return replace(config, containerd=replace(config.containerd, restart=RestartPolicy.AUTO))
