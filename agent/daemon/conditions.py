"""The problems that the daemon tells of besides the health state: each always listed, held or not."""

from __future__ import annotations

from collections.abc import Iterator

from agent.daemon.drift import Drift
from agent.daemon.keeper import Keeper
from agent.daemon.view import Condition
from agent.health.evidence import Mode
from agent.health.owner import Owner
from agent.health.state import HealthState, State

_MOST = 5
"""Findings in the condition's message; each is told by itself beside it."""


def conditions(
    state: State,
    keeper: Keeper,
    drift: Drift,
    *,
    config: str,
    port_taken: str,
    fence: str,
    symptoms: str,
    around: bool,
    refused: str,
) -> Iterator[Condition]:
    """`config`, `port_taken`, `fence` and `symptoms` say what is wrong with each, "" = nothing; `around`: reads go
    around the mirror, by nydusd's own fallback; `refused`: the mirror refuses reads, which is honoured ("" = no).
    """
    # Before the first apply nothing of ours uses the mirror: a node without Dragonfly lacks nothing.
    used = state.mode is not Mode.UNKNOWN
    bad = used and state.health_state in (HealthState.SUSPECT, HealthState.DOWN) and state.origin is False
    yield _condition("ConfigInvalid", config, "the configuration on the disk is not the one in use", config)
    yield _condition("FenceUnusable", fence or state.fence_error, "SelfTestFailed" if fence else "NftRefused",
                     fence or state.fence_error)  # fmt: skip
    survive = keeper.destroy_error if state.mode is Mode.FENCE else ""
    yield _condition("ConnectionsSurvive", survive, "nydusd's open connections could not be ended", survive)
    yield _condition("BothBad", bad, "MirrorAndOriginFail", f"{state.reason}; {state.origin_detail}")
    foreign = state.owner is Owner.FOREIGN
    yield _condition("ForeignListener", foreign, "WrongUser", state.reason)
    yield _condition("PingFails", state.ping_refuted, "DataPathWorks",
                     "ping_url fails although the mirror's data path works: is it right?")  # fmt: skip
    yield _condition("SymptomsUnknown", symptoms, "JournalNotFollowed",
                     f"what real reads meet is not seen: {symptoms}")  # fmt: skip
    goes = around and state.fence is None and state.mode is not Mode.UNKNOWN  # where nothing is applied they may
    yield _condition("ReadsGoAround", goes, "NydusdFallsBack",
                     "nydusd takes reads to the origin by itself: the mirror refuses, resets, times out or answers 5xx",
    )  # fmt: skip
    yield _condition("ReadsRefused", refused, "Honoured",
                     f'reads fail, as [mirror] refusals = "honour" wants it: {refused}')  # fmt: skip
    want = f"the agent lacks what its probes need, so they say nothing: {state.want}"
    yield _condition("AgentInWant", state.want, "ProbesNotMade", want)
    yield _condition("EndpointPortTaken", port_taken, "NNA0901", port_taken)
    changed = ", ".join(drift.changed)
    yield _condition("ChangedSinceProof", drift.changed, "FilesChanged", f"changed since the last proof: {changed}")
    told, more = [one.what for one in drift.findings[:_MOST]], len(drift.findings) - _MOST
    told += [f"and {more} more"] if more > 0 else []
    yield _condition("Drift", drift.findings, "ChangedByOthers", "; ".join(told))
    yield _condition("RepairGaveUp", drift.gave_up, "UndoneAgain", "; ".join(drift.gave_up))


def _condition(kind: str, holds: object, reason: str, message: str) -> Condition:
    return Condition(kind, bool(holds), reason if holds else "", message if holds else "")
