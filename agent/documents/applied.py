"""What root publishes of a change for everyone to read: effective.json, and proof.json.

Times are seconds since the epoch. A field that is new has a default, as in status.json.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from agent.codec import Count, Text, Time
from agent.errors import AgentError


@dataclass(frozen=True, slots=True)
class EffectiveDocument:
    """What "auto" came to when the node was changed, and what the daemon is to watch."""

    KIND: ClassVar = "Effective"
    generation: Count = 0
    at: Time | None = None
    switch: Text = "unknown"
    """"fence" or "native"."""
    dialect: Text = ""
    """"proxy" or "mirrors"."""
    use_http: bool | None = None
    scheme: Text = ""
    reasons: tuple[Text, ...] = ()
    not_accelerated: tuple[Text, ...] = ()
    """Registries whose nydus images go direct, each with the reason."""
    mirror_url: Text = ""
    ping_url: Text = ""
    rolled_back_to: Count | None = None
    """The generation whose state it is, where it is a rollback."""
    origins: tuple[Text, ...] = ()
    """Registries that nydusd reads from: the daemon asks them before it fences the mirror."""


class CheckState(enum.StrEnum):
    """What a check says. Only OK is a claim."""

    OK = "ok"
    FAILED = "failed"
    NOT_PROVED = "not-proved"
    """It could not be run, for a reason that is no fault (no nydus image on the node yet)."""
    UNKNOWN = "unknown"
    """Something that had to be asked did not answer in a way that tells."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of the proof."""

    number: Count
    name: Text
    state: CheckState
    detail: Text = ""
    code: Text = ""
    cause: Text = ""
    evidence: tuple[Text, ...] = ()
    try_: Text = ""

    def error(self) -> AgentError:
        """As an error, for headlines and for the undo of a change whose proof failed."""
        return AgentError(
            self.code, f"check {self.number} ({self.name}): {self.detail}", cause=self.cause,
            seen=self.evidence,
            try_=self.try_,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProofDocument:
    """The last proof."""

    KIND: ClassVar = "Proof"
    at: Time
    agent: Text = ""
    """The agent's version."""
    ok: bool = False
    headline: Text = ""
    """The first check that failed, in a sentence."""
    checks: tuple[CheckResult, ...] = ()
    """Lowest first."""
    drift: tuple[Text, ...] = ()
    """What others have changed that is ours, in words."""
    unseen: tuple[Text, ...] = ()
    """What could not be looked at for drift, each with the reason."""
    pending: tuple[Text, ...] = ()
    """What the configuration wants other than was applied, in words."""
    unrenewed: tuple[Text, ...] = ()
    """Images in use whose credential expires and is not renewed."""
    versions: Mapping[str, Text] = field(default_factory=dict)
    boot_id: Text = ""
    """Of the boot in which it was made (random(4)); empty in an answer of `doctor`."""

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """Checks that failed, lowest first."""
        return tuple(check for check in self.checks if check.state is CheckState.FAILED)
