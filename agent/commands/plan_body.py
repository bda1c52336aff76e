"""A plan as the body of a JSON document, for every verb that makes or carries out one."""

from __future__ import annotations

from agent.apply.generations import encode_effective
from agent.node.facts import Effective
from agent.plan import show
from agent.plan.steps import Plan, UnitStep


def body(plan: Plan, effective: Effective | None) -> dict[str, object]:
    """Diffs are as the text shows them, secrets hidden."""
    return {
        "changes": not plan.empty,
        "effective": encode_effective(effective) if effective is not None else None,
        "steps": [
            {"kind": type(step).__name__, "what": show.what(step), "diff": show.unified_diff(step)}
            for step in plan.steps
        ],
        "restarts": [
            {"unit": step.unit, "verb": step.verb.value, "reason": step.reason, "cost": step.cost}
            for step in plan.steps
            if isinstance(step, UnitStep)
        ],
        "notes": list(plan.notes),
        "warnings": list(plan.warnings),
    }
