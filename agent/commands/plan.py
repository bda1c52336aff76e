"""`nydus-agent plan`: what `apply` would do, as diffs, and which units restart.

With --output it is a file, which `apply FILE` carries out exactly, or not at all. The file gives no orders.
Before anything is done the plan is made anew, and it must be the one in the file: so the file needs no
signature, and root does only what it would have decided itself. It is 0600 all the same: it tells what is in
the node's files.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent import API_VERSION, __version__, wire
from agent.apply import change, gate, rollback
from agent.apply.gate import Urgency
from agent.codec import to_json
from agent.commands.context import Context
from agent.config import accepted
from agent.config.model import Config
from agent.console import Tone, Toned
from agent.errors import Exit, PlanError
from agent.facts.node import Effective, Facts
from agent.node import installed
from agent.node.machine import node_identity
from agent.outside_json import json_object, mapping, whole
from agent.plan import images, show
from agent.plan.show import changes, decided
from agent.ports import Files, Ports
from agent.programs import versions
from agent.records import generations, journal, json_files
from agent.steps import Plan, UnitStep

HELP = "show what apply would change, as diffs, and what it costs"
NEEDS_ROOT = True

BEFORE = -1
"""Of --rollback without a number."""
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("--exit-code", action="store_true", help="exit 3 where changes are pending")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the plan to FILE too (0600), for apply FILE: exactly that or nothing",
    )
    parser.add_argument(
        "--rollback", metavar="N", nargs="?", type=generation, const=BEFORE,
        help="what rollback would change instead; without N: back to the state before the present one",
    )  # fmt: skip


def generation(text: str) -> int:
    """The number of a generation, for argparse; "none" is what was before the first.

    Raises ArgumentTypeError.
    """
    if text == "none":
        return 0
    if (number := whole(text)) is None:
        raise argparse.ArgumentTypeError(f"{text} is not the number of a generation")
    return number


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, PlanError, FileError (--output)."""
    config = context.load_config().config
    ports = wire.root_ports(config)
    if journal.read(ports.ledger) is not None:
        context.console.warn(
            "an interrupted change is open: apply undoes it first, and this plan may then differ"
        )
    made = make(args.rollback, config, ports)
    display(made.plan, context)
    if args.output is not None:
        write_plan(ports.files, args.output, made)
        context.console.progress(f"written to {args.output}; carry it out: nydus-agent apply {args.output}")
    context.console.emit("Plan", plan_body(made.plan, made.effective))
    return Exit.NOT_AS_WANTED if args.exit_code and not made.plan.empty else Exit.OK


def make(to: int | None, config: Config, ports: Ports) -> MadePlan:
    """The plan of an apply, or of a rollback `to` a generation (BEFORE: the state before).

    Raises PlanError.
    """
    if to is None:
        facts, effective, plan = change.make_plan(config, ports)
        hold = generations.hold(ports.files)
        return MadePlan(config, facts, effective, replace(plan, notes=(*plan.notes, hold)) if hold else plan)
    target = rollback.choose(ports.files, None if to == BEFORE else to)
    then, facts, plan = rollback.look_back(config, ports, target)
    return MadePlan(then, facts, target.effective, plan, target.state)


def display(plan: Plan, context: Context) -> None:
    """The plan for people."""
    for line in show.lines(plan):
        context.console.line(line)
    if not plan.empty:
        context.console.line()
    diffs(show.diffs(plan), context)


def diffs(text: str, context: Context) -> None:
    """Unified diffs in colour."""
    for line in text.splitlines():
        tone = {"+": Tone.GOOD, "-": Tone.BAD, "@": Tone.FAINT}.get(line[:1])
        if line.startswith(("+++", "---")):
            tone = Tone.STRONG
        context.console.line(line if tone is None else Toned(line, tone))


def plan_document(made: MadePlan) -> dict[str, Any]:
    """What is written: what `plan` prints, who made it, and what it was decided on."""
    # `apply --now` does what a plan without it says.
    config = images.kept_root(gate.wanted(made.config, Urgency.NOW), made.facts)
    wanted = accepted.record(installed.pinned(config, made.facts.programs))
    basis = decided(made.plan, made.effective, made.facts, wanted, versions.known_versions(made.facts))
    node = hashlib.sha256(f"{_NODE} {node_identity()}".encode()).hexdigest()[:32]
    document = {
        "apiVersion": API_VERSION,
        "kind": "Plan",
        **plan_body(made.plan, made.effective),
        "made_by": {"agent": __version__, "node": node, "to": made.to},
        "decided": basis,
    }
    return json_object(json.dumps(document))


def write_plan(files: Files, path: str, made: MadePlan) -> None:
    """Raises FileError."""
    path = str(Path(path).absolute())
    json_files.replace(files, path, plan_document(made), found=files.read(path), mode=0o600)


def read_plan(files: Files, path: str) -> Mapping[str, Any]:
    """Raises PlanError NNA0341 where it is no plan of ours, FileError."""
    fact, cause = files.read(str(Path(path).absolute())), "it is not there"
    if fact is not None:
        cause = "it was not written by plan --output"
        with contextlib.suppress(ValueError):
            found = json_object(fact.content)
            head, to = (
                (found.get("apiVersion"), found.get("kind")),
                mapping(found.get("made_by")).get("to", ""),
            )
            if head == (API_VERSION, "Plan") and mapping(found.get("decided")) and isinstance(to, int | None):
                return found
    what, again = f"{path} cannot be used as a plan", f"nydus-agent plan --output {path}"
    raise PlanError("NNA0341", what, cause=cause, try_=again)


def demand(path: str, then: Mapping[str, Any], made: MadePlan) -> None:
    """Raises PlanError NNA0341, with everything that has changed, unless the plan in the file would be made
    again.
    """
    now = plan_document(made)
    maker, found = then["made_by"], []
    if maker.get("node") != now["made_by"]["node"]:
        found.append("it was made on another node")
    if maker.get("agent") != __version__:
        found.append(f"it was made by version {maker.get('agent')} of the agent, this is {__version__}")
    found += changes(then["decided"], now["decided"])
    if not found and any(then.get(key) != now[key] for key in ("changes", "steps", "restarts")):
        found.append("the steps that the file shows are not those that it was decided on: it was edited")
    if found:
        raise PlanError(
            "NNA0341", f"the plan in {path} is not the one for this node now; nothing was done",
            cause=found[0], seen=tuple(found[1:]), try_=f"nydus-agent plan --output {path}",
        )  # fmt: skip


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
