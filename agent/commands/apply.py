"""`nydus-agent apply`: carry the plan out as one transaction, and prove it."""

from __future__ import annotations

import argparse
from dataclasses import replace

from agent import paths, wire
from agent.apply import change, confirm, gate, rollback
from agent.apply.change import Outcome, Surroundings
from agent.apply.execute import Stop
from agent.apply.gate import Urgency
from agent.commands import plan as plan_verb
from agent.commands.context import Context
from agent.commands.plan import plan_body
from agent.commands.running import add_now, proof_summary, surroundings, urgency_of
from agent.config.model import Config
from agent.console import Console, Tone, Toned
from agent.durations import duration_option, in_words
from agent.errors import Exit
from agent.facts.node import Effective, Facts
from agent.health.policy import return_delay_s
from agent.node.machine import node_identity
from agent.ports import Ports
from agent.proof.proofs import body as proof_body
from agent.records.journal import Begin
from agent.steps import Plan

JUST_BOOTED_S = 300.0
"""A node that has come up this moment has nothing to lose by a restart, and should not serve a while without
us.
"""
_SLICE_S = 1.0  # a signal must not wait longer

HELP = "change this node into what the configuration wants, and prove it; or leave it as it was"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "plan", metavar="FILE", nargs="?",
        help="what plan --output wrote: carried out exactly, or refused where it is not the plan for this "
             "node any more",
    )  # fmt: skip
    parser.add_argument(
        "--on-install",
        action="store_true",
        help=argparse.SUPPRESS,  # do nothing unless [apply] on_install is set
    )
    parser.add_argument(
        "--confirm", metavar="TIME", type=duration_option(confirm.SHORTEST, confirm.LONGEST), default=0,
        help="take the change back after this time, such as 2m, unless nydus-agent confirm was said; from "
             "30s to 1d",
    )  # fmt: skip
    when = parser.add_mutually_exclusive_group()
    add_now(when.add_argument)
    when.add_argument(
        "--in-turn", action="store_true",
        # Of nydus-agent-apply.service: nobody waits for this. Leave half of restarts_per_hour, and restart at
        # this node's turn in [fleet] restart_window_s.
        help=argparse.SUPPRESS,
    )  # fmt: skip


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError, PlanError, LockedError, ApplyError."""
    config = context.load_config().config
    if args.on_install and not config.apply.on_install:
        return _nothing(context, "nothing is done: [apply] on_install is not set; run nydus-agent apply")
    ports = wire.root_ports(config)
    if not ports.units.running():
        return _nothing(context, "deferred to boot: systemd does not run here")
    urgency = urgency_of(now=args.now, by_itself=args.in_turn)
    by_itself = args.on_install or args.in_turn
    with surroundings(context.console) as around:
        if args.in_turn:
            await_turn(config, ports, around.stop, context.console)
        with ports.ledger.lock("apply"):
            if by_itself and (hold := confirm.hold(ports.files)):
                return _nothing(context, f"nothing is done: {hold}")
            if args.confirm:
                around = waiting(around, ports, args.confirm, context)
            outcome = act(args.plan, config, ports, around, urgency)
        return tell(outcome, ports, context, "ApplyResult")


def act(path: str | None, config: Config, ports: Ports, around: Surroundings, urgency: Urgency) -> Outcome:
    """Do what the configuration wants now, or exactly what the plan in a file says. The caller holds the
    lock.

    Raises PlanError NNA0341 (no plan, or one of another state), ApplyError, FileError.
    """
    if path is None:
        return change.apply(config, ports, around, urgency=urgency)
    then = plan_verb.read_plan(ports.files, path)
    to = then["made_by"].get("to")

    def demand(wanted: Config, facts: Facts, effective: Effective | None, plan: Plan) -> None:
        plan_verb.demand(path, then, plan_verb.MadePlan(wanted, facts, effective, plan, to))

    if to is None:
        return change.apply(config, ports, around, urgency=urgency, demand=demand)
    return rollback.roll_back(config, ports, around, to=to, urgency=urgency, demand=demand)


def waiting(around: Surroundings, ports: Ports, seconds: int, context: Context) -> Surroundings:
    """The same for a change that is taken back after so many seconds unless it is confirmed."""
    options = (f"--config={context.config_file}", f"--conf-d={context.conf_d}")

    def begin(begun: Begin) -> None:
        confirm.arm(ports, begun, seconds, (paths.PROGRAM, "rollback", *options))

    return replace(around, begin=begin)


def _nothing(context: Context, why: str) -> Exit:
    context.console.line(why)
    context.console.emit("ApplyResult", {"changed": False, "reason": why})
    return Exit.OK


def tell(outcome: Outcome, ports: Ports, context: Context, kind: str, **more: object) -> Exit:
    """Say what an apply or a rollback did; `more` goes into the JSON document too."""
    console = context.console
    for warning in outcome.plan.warnings:
        console.warn(warning)
    if outcome.recovered is not None and not outcome.recovered.finished:
        console.line(f"an interrupted {outcome.recovered.verb} was undone first")
    proof, waits = outcome.proof, confirm.pending(ports.files)
    left_s = waits.left_s(ports.clock.moment()) if waits is not None else 0.0
    body = {
        "changed": outcome.changed,
        "generation": outcome.generation,
        "recovered": outcome.recovered is not None,
        "steps": [{"what": step.what, "took_s": round(step.took_s, 3)} for step in outcome.steps],
        "plan": plan_body(outcome.plan, outcome.effective),
        "proof": proof_body(proof) if proof is not None else None,
        "unconfirmed": waits and {"generation": waits.generation, "left_s": round(left_s, 1)},
        **more,
    }
    console.emit(kind, body)
    if proof is None:
        console.line("nothing to do: the node is as wanted")
        return Exit.OK
    took = sum(step.took_s for step in outcome.steps)
    console.line(f"generation {outcome.generation} is in force ({len(outcome.steps)} steps in {took:.1f} s)")
    console.line(proof_summary(proof))
    if ports.files.read(paths.STATUS) is None:
        console.line(f"the agent is not running; start it: systemctl start {paths.AGENT_UNIT}")
    if waits is not None:
        back = f"it is taken back in {in_words(left_s)} unless you say: nydus-agent confirm"
        console.line(Toned(f"not confirmed: {back}", Tone.WARN))
    return proof.exit


def await_turn(config: Config, ports: Ports, stop: Stop, console: Console) -> None:
    """Returns when it is this node's turn: at once where nothing has to restart. The lock is not held
    meanwhile.

    Raises ApplyError NNA0404 after a signal, PlanError.
    """
    delay_s = return_delay_s(node_identity(), config.fleet.restart_window_s)
    now = ports.clock.moment()
    if delay_s <= 0 or (now.up_s is not None and now.up_s < JUST_BOOTED_S):
        return
    _facts, _effective, plan = change.make_plan(config, ports)
    units = gate.restarted(plan)
    if not units:
        return
    console.progress(f"{' and '.join(units)} will be restarted in {in_words(delay_s)}, at this node's turn")
    end = ports.clock.monotonic() + delay_s
    while (left := end - ports.clock.monotonic()) > 0:
        stop.check()
        ports.clock.sleep(min(left, _SLICE_S))
