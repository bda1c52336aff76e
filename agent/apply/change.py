"""`apply` as a whole: look, decide, plan, carry out, prove. No printing, no signals: those are the verb's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from agent.apply import (
    checks_nydusd,
    confirm,
    drift,
    expected,
    gate,
    generations,
    proofs,
    prove,
    recover,
    transaction,
)
from agent.apply.daemon_view import daemon_view
from agent.apply.drift import DriftFound
from agent.apply.gate import Urgency
from agent.apply.proofs import CheckResult, Proof
from agent.apply.transaction import ChangeResult, Intention, Surroundings
from agent.apply.waits import before_change
from agent.config import accepted
from agent.config.accepted import restored
from agent.config.model import Config
from agent.errors import AgentError, ApplyError, FileError, PlanError
from agent.node import installed, versions
from agent.node.facts import Effective, Facts, Unknown
from agent.node.observe import observe
from agent.plan import decide, diff, roots
from agent.plan.show import what
from agent.plan.steps import Plan, RemoveFile, UnitStep, UnitVerb, WriteFile
from agent.ports import Ports

_STARTS = (UnitVerb.START, UnitVerb.RESTART)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an apply or a rollback did. `proof` is None where nothing had to be changed."""

    plan: Plan
    effective: Effective | None
    result: ChangeResult
    proof: Proof | None
    recovered: recover.Recovered | None


Demand: TypeAlias = Callable[[Config, Facts, Effective | None, Plan], None]
"""Looks at a plan, and at what it was made of, before it is carried out; raises PlanError where it is not the
wanted one."""


def anything(_config: Config, _facts: Facts, _effective: Effective | None, _plan: Plan) -> None:
    """The demand of who wants whatever plan is made."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run reports to, and what it found to do first."""

    around: Surroundings
    each: Callable[[CheckResult], None]
    recovered: recover.Recovered | None = None


def make_plan(config: Config, ports: Ports) -> tuple[Facts, Effective, Plan]:
    """The node, what "auto" comes to on it, and the plan. Raises PlanError with every reason against one."""
    facts = _undoubted(_observe(config, ports, look_at_images=True), ports)
    made = diff.plan(config, facts)
    return facts, decide.effective(config, facts), made


def _undoubted(facts: Facts, ports: Ports) -> Facts:
    """What a mirror says of registries while the agent judges it bad proves nothing, so what was proved
    before is kept: a fault of the mirror must never restart anything. (Where it is fenced, root's questions
    do not even reach it.)
    """
    daemon = daemon_view(ports)
    if not daemon.fresh or daemon.health_state not in ("down", "suspect"):
        return facts
    doubt = Unknown(f"the mirror is {daemon.health_state}")
    canaries = tuple(replace(canary, ok=doubt) for canary in facts.tls_canaries)
    return replace(facts, tls_canaries=canaries, mirror_reads_ns=doubt)


def apply(
    config: Config,
    ports: Ports,
    around: Surroundings,
    each: Callable[[CheckResult], None],
    *,
    urgency: Urgency = Urgency.BY_HAND,
    demand: Demand = anything,
) -> Outcome:
    """Change the node into what `config` wants, and prove it. The caller holds the lock. `demand` may refuse
    the plan.

    Raises PlanError, ApplyError NNA0415 to NNA0417 (nothing touched), NNA0402 (put back), NNA0403 (not
    everything could be).
    """
    config = gate.wanted(config, urgency)
    recovered = recover.finish(ports, jobs=True, say=around.say)
    confirm.refuse_another(ports)
    facts, effective, plan = make_plan(config, ports)
    demand(config, facts, effective, plan)
    config = roots.kept(config, facts)
    gate.check(config, ports, plan, urgency)
    around.stop.check()
    intention = Intention(
        "apply", plan, effective, versions.known_versions(facts), (config.mirror.url, config.mirror.ping_url),
        config.snapshotter.root, config=accepted.record(installed.pinned(config, facts.programs)),
    )  # fmt: skip
    return carry_out(config, ports, facts, intention, Run(around, each, recovered))


def carry_out(config: Config, ports: Ports, facts: Facts, intention: Intention, run: Run) -> Outcome:
    """Run a plan, prove it, publish the proof. `config` is what the node is changed for. The caller holds the
    lock.

    Raises ApplyError NNA0402, NNA0403.
    """
    plan, effective = intention.plan, intention.effective
    assert effective is not None  # only a removal leaves none
    before = before_change(ports, _restarted(plan))
    made: list[Proof] = []

    def proof() -> AgentError | None:
        made.append(
            prove.run_checks(
                config, ports, facts, effective, before=before, each=run.each, top=prove.LAST_THAT_DECIDES
            )
        )
        return prove.must_undo(made[-1])

    try:
        result = transaction.carry_out(ports, intention, proof, run.around)
    except ApplyError as error:
        try:
            _prove_again(config, ports)
        finally:
            raise error  # whatever becomes of the look at the node: it says what was put back
    if not made:
        _prove_unchanged(config, ports, facts, effective)
        return Outcome(plan, effective, result, None, run.recovered)
    prove.await_route(ports)
    looked = drift.find_drift(config, ports)
    below = made[-1].checks
    found = prove.run_checks(
        config, ports, facts, effective, before=before, each=run.each, below=below, looked=looked
    )
    proofs.publish(ports.files, found)
    drift.tell(ports, looked)
    return Outcome(plan, effective, result, found, run.recovered)


def _prove_unchanged(config: Config, ports: Ports, facts: Facts, effective: Effective) -> None:
    """Nothing was to be done.

    What was not proved since the boot, or with programs that were replaced since, is now.
    """
    replaced, last = expected.programs_replaced(ports.files), generations.applied(ports.files)
    if not replaced and proofs.published_since_boot(ports.files):
        return
    found = prove.run_checks(config, ports, facts, effective)
    proofs.publish(ports.files, found)
    if replaced and last is not None and prove.must_undo(found) is None:
        expected.publish(ports, replace(last, versions=versions.known_versions(facts)))
        drift.tell(ports, drift.find_drift(config, ports))


def note_origins(config: Config, ports: Ports) -> None:
    """Tell the daemon of registries that came into use, while reads go to the mirror: it must know whether an
    origin lives before it fences the mirror, and it starts to watch anew when it reads of another.
    """
    daemon = daemon_view(ports)
    if daemon.fresh and daemon.route == "mirror":
        applied = generations.in_force(ports.files, config)
        generations.note_origins(ports.files, checks_nydusd.registries(applied, ports))


def _prove_again(config: Config, ports: Ports) -> None:
    """After an undo: what is published must be about the node as it is again, not as it was for a moment."""
    with contextlib.suppress(ApplyError, FileError):
        if generations.applied(ports.files) is not None:
            proofs.publish(ports.files, inspect(config, ports))


def inspect(
    config: Config,
    ports: Ports,
    each: Callable[[CheckResult], None] = lambda _: None,
    looked: DriftFound | None = None,
) -> Proof:
    """Run the checks on the node as it is, and judge it by the configuration that was applied. `looked`: see
    `prove.run_checks`.

    Raises ApplyError NNA0410, FileError.
    """
    last = generations.applied(ports.files)
    applied = restored(config, last.config) if last is not None else config
    facts = _observe(applied, ports)
    effective = last.effective if last is not None else None
    if effective is None:
        effective, _refusals = decide.choose(applied, facts)
    proof = prove.run_checks(applied, ports, facts, effective, each=each, looked=looked)
    same = last is None or applied == installed.resolved(config, ports.files)
    now = facts if same else _observe(config, ports)
    return replace(proof, pending=_pending(config, ports, now, proof))


def pending(config: Config, ports: Ports, proof: Proof) -> tuple[str, ...]:
    """What `config` wants other than was applied, in words. Raises ApplyError NNA0410, FileError."""
    return _pending(config, ports, _observe(config, ports), proof)


def _pending(config: Config, ports: Ports, facts: Facts, proof: Proof) -> tuple[str, ...]:
    """What others changed is drift, and told as that; what cannot be planned is told by `plan`."""
    drifted = {one.subject for one in proof.findings}
    try:
        steps = (
            diff.plan(config, _undoubted(facts, ports)).steps
            if generations.applied(ports.files) is not None
            else ()
        )
    except PlanError:
        return ()
    files = (step for step in steps if isinstance(step, (WriteFile, RemoveFile)))
    return tuple(what(step) for step in files if step.path not in drifted)


def _observe(config: Config, ports: Ports, *, look_at_images: bool = False) -> Facts:
    extra = tuple(one.path for one in _known(ports))
    return observe(config, ports, look_at_images=look_at_images, extra_paths=extra)


def _restarted(plan: Plan) -> frozenset[str]:
    return frozenset(step.unit for step in plan.steps if isinstance(step, UnitStep) and step.verb in _STARTS)


def _known(ports: Ports) -> tuple[generations.Original, ...]:
    return generations.originals(generations.history(ports.files))
