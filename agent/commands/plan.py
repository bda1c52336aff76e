"""`nydus-agent plan`: what `apply` would do, as diffs, and which units restart."""

from __future__ import annotations

import argparse
from dataclasses import replace

from agent import wire
from agent.apply import change, rollback
from agent.commands import plan_file
from agent.commands.context import Context
from agent.commands.plan_file import MadePlan, plan_body
from agent.config.model import Config
from agent.console import Part, Tone, Toned
from agent.errors import Exit
from agent.plan import show
from agent.ports import Ports
from agent.records import generations, journal
from agent.steps import Plan

HELP = "show what apply would change, as diffs, and what it costs"
NEEDS_ROOT = True


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


BEFORE = -1
"""Of --rollback without a number."""


def generation(text: str) -> int:
    """The number of a generation, for argparse; "none" is what was before the first.

    Raises ArgumentTypeError.
    """
    if text == "none":
        return 0
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is not the number of a generation")
    return int(text)


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
        plan_file.write(ports.files, args.output, made, plan_body(made.plan, made.effective))
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
        context.console.line(_coloured(line))


def _coloured(line: str) -> Part:
    if line.startswith(("+++", "---")):
        return Toned(line, Tone.STRONG)
    tone = {"+": Tone.GOOD, "-": Tone.BAD, "@": Tone.FAINT}.get(line[:1])
    return line if tone is None else Toned(line, tone)
