"""`rollback` as a whole: which generation, the plan back to it, one transaction, the proof, and a new
generation.

History is append-only: what was gone back from can be gone back to. The operator's configuration is not
touched, so it wants another state afterwards; the rollback holds until the next explicit apply
(`generations.holds`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.apply import change, gate, generations, proofs, recover, transaction, undo
from agent.apply.change import Demand, Outcome, Run, anything
from agent.apply.gate import Urgency
from agent.apply.generations import Generation
from agent.apply.proofs import CheckResult
from agent.apply.transaction import Intention, Surroundings
from agent.config.accepted import restored
from agent.config.model import Config
from agent.errors import PlanError
from agent.node import versions
from agent.node.facts import Facts
from agent.node.observe import observe
from agent.plan import rollback
from agent.plan.rollback import Touched
from agent.plan.steps import Plan
from agent.ports import Files, Ports


def roll_back(
    config: Config,
    ports: Ports,
    around: Surroundings,
    each: Callable[[CheckResult], None],
    *,
    to: int | None,
    urgency: Urgency = Urgency.BY_HAND,
    demand: Demand = anything,
) -> Outcome:
    """Bring the node back to what it was after generation `to`; None: the state before the present one.

    `config` is the operator's. The caller holds the lock. Raises PlanError (nothing touched; NNA0333: there
    is no such generation), ApplyError NNA0415 and NNA0416 (nothing touched), NNA0402 (put back) and NNA0403.
    """
    config = gate.wanted(config, urgency)
    recovered = recover.finish(ports, jobs=True, say=around.say)
    target = choose(ports.files, to)
    then, facts, plan = look_back(config, ports, target)
    demand(then, facts, target.effective, plan)
    gate.check(config, ports, plan, urgency, "rollback")
    around.stop.check()
    newest = generations.newest(ports.files)
    if plan.empty and newest is not None and newest.state == target.state:
        return Outcome(plan, target.effective, transaction.ChangeResult(None), None, recovered)
    intention = Intention(
        "rollback", plan, target.effective, versions.known_versions(facts), target.mirror,
        then.snapshotter.root,
        target.state, target.config,
    )  # fmt: skip
    outcome = change.carry_out(then, ports, facts, intention, Run(around, each, recovered))
    if outcome.proof is None:
        return outcome
    proof = replace(outcome.proof, pending=change.pending(config, ports, outcome.proof))
    proofs.publish(ports.files, proof)
    return replace(outcome, proof=proof)


def look_back(
    config: Config, ports: Ports, target: Generation, *, probe_fence: bool = True
) -> tuple[Config, Facts, Plan]:
    """The configuration of then, the node as it is, and the plan back.

    Raises PlanError, ApplyError NNA0410.
    """
    history = generations.history(ports.files)
    files = touched(history, target)
    then = restored(config, target.config)
    extra = tuple(one.path for one in files)
    facts = observe(then, ports, probe_fence=probe_fence, probe_mirror=False, extra_paths=extra)
    notes = (
        f"back to generation {target.number}; the configuration is not changed",
        *_versions(target, facts),
    )
    return then, facts, rollback.rollback(then, facts, files, notes)


def choose(files: Files, to: int | None) -> Generation:
    """The generation to go back to.

    Raises PlanError NNA0333 with those that there are, ApplyError NNA0410.
    """
    history = generations.history(files)
    if not history:
        raise PlanError(
            "NNA0333", "there is nothing to go back from", cause="nothing is applied on this node"
        )
    if to is None:
        return _before(history)
    found = next((one for one in history if one.number == to), None)
    if found is not None:
        return found
    if to == 0:
        raise _no_generation(
            "before the first generation the node was without the agent", "nydus-agent remove"
        )
    since = " since the last removal" if history[0].number > 1 else ""
    known = f"there are {history[0].number} to {history[-1].number}{since}"
    raise _no_generation(f"there is no generation {to}: {known}", "nydus-agent generations")


def before(history: Sequence[Generation]) -> Generation | None:
    """The state before the present one, None where there is none. A second rollback goes one further back, it
    does not undo the first.
    """
    one = history[-1] if history else None
    while one is not None and (earlier := [other for other in history if other.number < one.state]):
        one = earlier[-1]
        if not rollback.same(touched(history, one)):
            return one
    return None


def _before(history: Sequence[Generation]) -> Generation:
    found = before(history)
    if found is not None:
        return found
    raise _no_generation("no generation before the present one had other files", "nydus-agent remove")


def _no_generation(cause: str, try_: str) -> PlanError:
    return PlanError("NNA0333", "there is no such generation to go back to", cause=cause, try_=try_)


def touched(history: Sequence[Generation], target: Generation) -> tuple[Touched, ...]:
    """What the generations did to each file, in the order in which files were first touched."""
    backs: dict[str, list[tuple[int, undo.PutBack]]] = {}
    for generation in history:
        for one in generation.steps:
            if isinstance(one.undo, undo.PutBack):
                backs.setdefault(one.undo.path, []).append((generation.number, one.undo))
    return tuple(_touched(path, found, target.number) for path, found in backs.items())


def _touched(path: str, found: Sequence[tuple[int, undo.PutBack]], target: int) -> Touched:
    kept = sum(number <= target for number, _ in found)
    changes = tuple((back.before, back.after) for _, back in found)
    last = found[kept - 1][1] if kept else None
    if last is not None and last.mode_after is not None:
        return Touched(path, changes, kept, last.mode_after, last.uid, last.gid)
    _, witness = found[min(kept, len(found) - 1)]
    if witness.before is None:  # its owner and mode are those that we gave it
        return Touched(path, changes, kept, 0o644 if witness.mode_after is None else witness.mode_after)
    return Touched(path, changes, kept, witness.mode, witness.uid, witness.gid)


def _versions(target: Generation, facts: Facts) -> tuple[str, ...]:
    """Programs that are other than then: the files of then are for those."""
    now = dict(versions.known_versions(facts))
    return tuple(
        f"{name} was {version} then and is {now[name]} now"
        for name, version in target.versions
        if name in now and now[name] != version
    )
