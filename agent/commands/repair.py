"""`nydus-agent repair`: put back what others have changed of what was applied, and prove it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agent import wire
from agent.apply import repair
from agent.apply.gate import Urgency
from agent.codec import to_json
from agent.commands.context import Context
from agent.commands.plan import display, plan_body
from agent.commands.running import add_now, proof_summary, surroundings, urgency_of
from agent.config.model import Config, Repair
from agent.console import Console, Tone, Toned
from agent.documents.drift import Finding
from agent.errors import Exit
from agent.ports import Ports
from agent.proof.proofs import body as proof_body

HELP = "put back what others have changed of what was applied, and prove it"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--dry-run", action="store_true", help="only show what is not as applied, and what would change"
    )
    add_now(how.add_argument)
    how.add_argument(
        "--by-itself", action="store_true",
        # Of nydus-agent-repair.service: do nothing unless [drift] repair = "own", leave half of
        # restarts_per_hour, and give up on what is changed again each time.
        help=argparse.SUPPRESS,
    )  # fmt: skip


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, PlanError, LockedError, ApplyError."""
    config = context.load_config().config
    if args.by_itself and config.drift.repair is not Repair.OWN:
        context.console.line('nothing is done: [drift] repair is not "own"')
        context.console.emit("RepairResult", _body(None, None, ()))
        return Exit.OK
    ports = wire.root_ports(config)
    if args.dry_run:
        return show(context, config, ports)
    return mend(context, config, ports, urgency_of(now=args.now, by_itself=args.by_itself))


def mend(context: Context, config: Config, ports: Ports, urgency: Urgency) -> Exit:
    """Put back what may be put back. Raises PlanError, LockedError, ApplyError."""
    console = context.console
    with surroundings(console) as around:
        with ports.ledger.lock("repair"):
            outcome = repair.run(config, ports, around, urgency=urgency)
        for warning in (*outcome.ready.plan.warnings, *outcome.ready.waiting):
            console.warn(warning)
        console.emit("RepairResult", _body(outcome.ready, outcome, outcome.left))
        if outcome.proof is not None:
            console.line(f"put back what was applied ({len(outcome.steps)} steps)")
            console.line(proof_summary(outcome.proof))
        if outcome.left:
            console.line("left, because it is not ours to decide or not to be put back now:")
        return _list(console, outcome.left, outcome.unseen)


def show(context: Context, config: Config, ports: Ports) -> Exit:
    """What is not as it was applied, and the plan."""
    ready = repair.plan_repair(config, ports, Urgency.BY_HAND)
    found = ready.looked
    exit_ = _list(context.console, found.findings, found.unseen)
    if ready.plan.steps:
        context.console.line()
        display(ready.plan, context)
    context.console.emit("RepairResult", _body(ready, None, found.findings))
    return exit_


def _list(console: Console, findings: Sequence[Finding], unseen: Sequence[str]) -> Exit:
    """Say what is not as it was applied; the exit code says how much of it there is."""
    for what in unseen:
        console.line("  ", Toned(f"{'unseen':<19} ", Tone.WARN), what)
    if not (findings or unseen):
        console.line("nothing is left: the node is as it was applied")
    for one in findings:
        console.line("  ", Toned(f"{one.kind:<19} ", Tone.WARN), one.what)
        for line in one.evidence:
            console.line("      seen: ", line)
        console.line("      try:  ", one.try_)
    return Exit.NOT_AS_WANTED if findings else Exit.UNKNOWN if unseen else Exit.OK


def _body(
    ready: repair.Ready | None, outcome: repair.RepairOutcome | None, left: tuple[Finding, ...]
) -> dict[str, object]:
    """`outcome`: None where nothing was to be put back; `ready`: None where nobody looked."""
    proof = outcome.proof if outcome is not None else None
    body: dict[str, object] = {
        "changed": proof is not None,
        "steps": list(outcome.steps) if outcome is not None else [],
        "left": to_json(left),
        "proof": proof_body(proof) if proof is not None else None,
        "found": [], "unseen": [], "waiting": [], "plan": None,
    }  # fmt: skip
    if ready is not None:
        generation = ready.looked.generation
        body["found"] = to_json(ready.looked.findings)
        body["unseen"] = list((outcome or ready.looked).unseen)
        body["waiting"] = list(ready.waiting)
        body["plan"] = plan_body(ready.plan, generation.effective if generation is not None else None)
    return body
