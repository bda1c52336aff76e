"""Reasons why a plan cannot be made, collected so that the operator sees all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import PlanError


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason: its code in the catalogue, what is wrong, and one command or action to try."""

    code: str
    reason: str
    try_: str = ""


def refuse(refusals: Sequence[Refusal]) -> None:
    """Raise PlanError with all reasons; the first one gives the code and the way out. Nothing where there are none."""
    if not refusals:
        return
    first = refusals[0]
    others = tuple(f"[{one.code}] {one.reason}" for one in refusals[1:])
    raise PlanError(
        first.code, "no plan can be made for this node", cause=first.reason, seen=others, try_=first.try_
    )  # fmt: skip
