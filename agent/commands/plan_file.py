"""A plan as a file: written by `plan --output`, carried out by `apply FILE` exactly, or not at all.

The file gives no orders. Before anything is done the plan is made anew, and it must be the one in the file:
so the file needs no signature, and root does only what it would have decided itself. It is 0600 all the same:
it tells what is in the node's files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import API_VERSION, __version__
from agent.codec import to_json
from agent.config import accepted
from agent.config.model import Config
from agent.errors import PlanError
from agent.facts.node import Effective, Facts
from agent.node import installed
from agent.node.machine import node_identity
from agent.outside_json import json_value
from agent.plan import images, show
from agent.plan.decided import changes, decided
from agent.ports import Files
from agent.programs import versions
from agent.records import json_files
from agent.steps import Plan, UnitStep

_NODE = "nydus-agent plan"
"""So that the digest is of no use where the machine's id itself must not be known (machine-id(5))."""


@dataclass(frozen=True, slots=True)
class MadePlan:
    """A plan and what it was made of."""

    config: Config
    """What the node would be changed for."""
    facts: Facts
    effective: Effective | None
    plan: Plan
    to: int | None = None
    """Of a rollback: the generation whose state comes back."""


def document(made: MadePlan, body: Mapping[str, object]) -> dict[str, Any]:
    """The whole document; `body` is what `plan` prints."""
    config = images.kept_root(made.config, made.facts)
    wanted = accepted.record(installed.pinned(config, made.facts.programs))
    basis = decided(made.plan, made.effective, made.facts, wanted, versions.known_versions(made.facts))
    made_by = {"agent": __version__, "node": _node(), "to": made.to}
    whole: dict[str, Any] = json_value(
        json.dumps({"apiVersion": API_VERSION, "kind": "Plan", **body, "made_by": made_by, "decided": basis})
    )
    return whole


def write(files: Files, path: str, made: MadePlan, body: Mapping[str, object]) -> None:
    """Raises FileError."""
    path = str(Path(path).absolute())
    json_files.replace(files, path, document(made, body), found=files.read(path), mode=0o600)


def read(files: Files, path: str) -> Mapping[str, Any]:
    """Raises PlanError NNA0341 where it is no plan of ours, FileError."""
    fact = files.read(str(Path(path).absolute()))
    if fact is None:
        raise _unusable(path, "it is not there")
    try:
        found = json_value(fact.content)
    except ValueError as error:
        raise _unusable(path, f"it is not JSON: {error}") from None
    if not isinstance(found, dict) or (found.get("apiVersion"), found.get("kind")) != (API_VERSION, "Plan"):
        raise _unusable(path, "it is no document of kind Plan")
    if not isinstance(found.get("decided"), dict) or not isinstance(found.get("made_by"), dict):
        raise _unusable(path, "it does not say what it was decided on: it was not written by plan --output")
    if not isinstance(found["made_by"].get("to"), (int, type(None))):
        raise _unusable(path, "made_by.to is not the number of a generation")
    return found


def _unusable(path: str, cause: str) -> PlanError:
    return PlanError(
        "NNA0341", f"{path} cannot be used as a plan", cause=cause, try_=f"nydus-agent plan --output {path}"
    )


def demand(path: str, then: Mapping[str, Any], made: MadePlan, body: Mapping[str, object]) -> None:
    """Raises PlanError NNA0341, with everything that has changed, unless the plan in the file would be made
    again.
    """
    now = document(made, body)
    found = list(_maker(then["made_by"], now["made_by"]))
    found += changes(then["decided"], now["decided"])
    if not found and any(then.get(key) != now[key] for key in ("changes", "steps", "restarts")):
        found.append("the steps that the file shows are not those that it was decided on: it was edited")
    if found:
        raise PlanError(
            "NNA0341", f"the plan in {path} is not the one for this node now; nothing was done",
            cause=found[0], seen=tuple(found[1:]), try_=f"nydus-agent plan --output {path}",
        )  # fmt: skip


def _maker(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    if then.get("node") != now["node"]:
        found.append("it was made on another node")
    if then.get("agent") != now["agent"]:
        found.append(f"it was made by version {then.get('agent')} of the agent, this is {now['agent']}")
    if then.get("to") != now["to"]:
        found.append("it is a plan for another generation")
    return found


def _node() -> str:
    return hashlib.sha256(f"{_NODE} {node_identity()}".encode()).hexdigest()[:32]


def plan_body(plan: Plan, effective: Effective | None) -> dict[str, object]:
    """Diffs are as the text shows them, secrets hidden."""
    return {
        "changes": not plan.empty,
        "effective": to_json(effective),
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
