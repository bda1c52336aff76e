"""`nydus-agent repair`: put back what others have changed of what was applied, and prove it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agent import wire
from agent.apply import repair
from agent.apply.gate import Urgency
from agent.codec import to_json
from agent.commands.context import Context
from agent.commands.plan import display
from agent.commands.plan_file import plan_body as plan_body
from agent.commands.running import add_now, surroundings, urgency_of
from agent.commands.state import proof_lines
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
        context.console.emit("RepairResult", _body(None, (), changed=False))
        return Exit.OK
    ports = wire.root_ports(config)
    if args.dry_run:
        return show(context, config, ports)
    return mend(context, config, ports, urgency_of(now=args.now, by_itself=args.by_itself))


def mend(context: Context, config: Config, ports: Ports, urgency: Urgency) -> Exit:
    """Put back what may be put back. Raises PlanError, LockedError, ApplyError."""
    with surroundings(context.console, proof_lines.progress(context.console)) as around:
        with ports.ledger.lock("repair"):
            outcome = repair.run(config, ports, around, urgency=urgency)
        return _tell(outcome, context.console)


def show(context: Context, config: Config, ports: Ports) -> Exit:
    """What is not as it was applied, and the plan."""
    ready = repair.plan_repair(config, ports, Urgency.BY_HAND)
    console = context.console
    _list(console, ready.looked.findings, ready.looked.unseen)
    if ready.plan.steps:
        console.line()
        display(ready.plan, context)
    console.emit("RepairResult", _body(ready, ready.looked.findings, changed=False))
    return _exit(ready.looked.findings, ready.looked.unseen)


def _tell(outcome: repair.RepairOutcome, console: Console) -> Exit:
    ready = outcome.ready
    for warning in (*ready.plan.warnings, *ready.waiting):
        console.warn(warning)
    left = outcome.left
    console.emit("RepairResult", _body(ready, left, changed=outcome.proof is not None, outcome=outcome))
    if outcome.proof is not None:
        console.line(f"put back what was applied ({len(outcome.steps)} steps)")
        console.line(proof_lines.summary(outcome.proof))
    if left:
        console.line("left, because it is not ours to decide or not to be put back now:")
    _list(console, left, outcome.unseen)
    return _exit(left, outcome.unseen)


def _exit(findings: Sequence[Finding], unseen: Sequence[str]) -> Exit:
    return Exit.NOT_AS_WANTED if findings else Exit.UNKNOWN if unseen else Exit.OK


def _list(console: Console, findings: Sequence[Finding], unseen: Sequence[str]) -> None:
    for what in unseen:
        console.line("  ", Toned(f"{'unseen':<19} ", Tone.WARN), what)
    if not (findings or unseen):
        console.line("nothing is left: the node is as it was applied")
    for one in findings:
        console.line("  ", Toned(f"{one.kind:<19} ", Tone.WARN), one.what)
        for line in one.evidence:
            console.line("      seen: ", line)
        console.line("      try:  ", one.try_)


def _body(
    ready: repair.Ready | None,
    left: tuple[Finding, ...],
    *,
    changed: bool,
    outcome: repair.RepairOutcome | None = None,
) -> dict[str, object]:
    generation = ready.looked.generation if ready is not None else None
    proof = outcome.proof if outcome is not None else None
    return {
        "changed": changed,
        "steps": list(outcome.steps) if outcome is not None else [],
        "found": to_json(ready.looked.findings) if ready is not None else [],
        "left": to_json(left),
        "unseen": list((outcome or ready.looked).unseen) if ready is not None else [],
        "waiting": list(ready.waiting) if ready is not None else [],
        "plan": plan_body(ready.plan, generation.effective if generation is not None else None)
        if ready is not None
        else None,
        "proof": proof_body(proof) if proof is not None else None,
    }
