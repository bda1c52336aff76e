"""`rollback` as a whole: which generation, the plan back to it, one transaction, the proof, and a new
generation.

History is append-only: what was gone back from can be gone back to. The operator's configuration is not
touched, so it wants another state afterwards; the rollback holds until the next explicit apply
(`generations.hold`).

A change that waits for its confirmation is taken back: an interrupted one is undone, an accepted one goes
back to the generation before it. Before the first generation the node was without the agent, so everything is
removed; only where containers run on the snapshotter by now it stays for them, because containerd could not
clean up after them without it, which would be worse than on a plain node: new containers start as before, and
`remove` ends it when the last of them is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from agent.apply import change, confirm, gate, recover, remove, services
from agent.apply.change import Demand, Intention, Outcome, Surroundings, anything
from agent.apply.gate import Urgency
from agent.config.accepted import record, restored
from agent.config.model import Config, ContainerdMode
from agent.errors import LockedError, PlanError
from agent.facts.node import Facts
from agent.node.observe import observe
from agent.plan import rollback
from agent.plan.rollback import Touched
from agent.ports import Files, Ports
from agent.programs import versions
from agent.proof import inspection, proofs
from agent.records import generations
from agent.records.generations import FileHistory, Generation, Pending, TakenBack
from agent.steps import Plan

PATIENCE_S = 600.0
"""For the lock, beyond the time that the change was given."""
_GRACE_S = 150.0
"""A change that is told to end lets one step end (90 s for a job) and undoes the others."""
_STEP_S = 0.5


def roll_back(
    config: Config,
    ports: Ports,
    around: Surroundings,
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
    newest = generations.newest(ports.files)
    if plan.empty and newest is not None and newest.state == target.state:
        return Outcome(plan, target.effective, recovered=recovered)
    outcome = change.change(then, ports, facts, _intention(target, then, facts, plan), around)
    proof = outcome.proof
    if proof is not None:
        proof = replace(proof, pending=inspection.pending(config, ports, proof))
        proofs.publish(ports.files, proof)
    return replace(outcome, proof=proof, recovered=recovered)


def _intention(target: Generation, then: Config, facts: Facts, plan: Plan) -> Intention:
    return Intention(
        "rollback", plan, target.effective, versions.known_versions(facts), target.mirror,
        then.snapshotter.root, target.state, target.config,
    )  # fmt: skip


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
    return tuple(_touched(one, target.number) for one in generations.file_histories(history))


def _touched(file: FileHistory, target: int) -> Touched:
    kept = sum(number <= target for number, _ in file.changes)
    contents = tuple((back.before, back.after) for _, back in file.changes)
    last = file.changes[kept - 1][1] if kept else file.first
    mode = last.mode_after if kept else last.mode
    return Touched(file.path, contents, kept, mode, last.uid, last.gid)


def _versions(target: Generation, facts: Facts) -> tuple[str, ...]:
    """Programs that are other than then: the files of then are for those."""
    now = versions.known_versions(facts)
    return tuple(
        f"{name} was {version} then and is {now[name]} now"
        for name, version in target.versions.items()
        if name in now and now[name] != version
    )


def take_back(config: Config, ports: Ports, around: Surroundings, *, only: str = "") -> TakenBack | None:
    """Take the change back that waits; None where none does (any more), or not the transaction `only`.

    The caller holds the lock. Raises ApplyError NNA0402, NNA0403, NNA0411 (a container was started at this
    moment), PlanError.
    """
    waits = confirm.pending(ports.files)
    if waits is None or only not in ("", waits.id):
        return None
    cut_off, newest = confirm.is_open(ports, waits), generations.newest(ports.files)
    if newest is not None and newest.id == waits.id:
        recover.finish(ports, jobs=True, say=around.say)
        why, go_back = _way_back(config, ports, around)
        taken = confirm.note_taken(ports, waits, newest.number + 1, why)
        around.say(f"generation {waits.generation} was not confirmed; going back to what was before it")
        go_back()
        return taken
    if cut_off:
        why = f"the change to generation {waits.generation} was cut off and is undone"
        taken = confirm.note_taken(ports, waits, newest.number if newest is not None else 0, why)
        recover.finish(ports, jobs=True, say=around.say)
        return taken
    if recover.finish(ports, jobs=True, say=around.say) is None:
        ports.ledger.close()  # what a change left that was killed before it began
    confirm.tidy(ports)
    return None


def _way_back(config: Config, ports: Ports, around: Surroundings) -> tuple[str, Callable[[], object]]:
    """What becomes of the node, in words, and the act."""
    *before, last = generations.history(ports.files)
    what = f"generation {last.number} was not confirmed"
    if before:
        to = before[-1].number
        back = partial(roll_back, config, ports, around, to=to, urgency=Urgency.NOW)
        return f"{what}: the node is as it was after generation {to}", back
    applied = generations.in_force(ports.files, config)
    count = len(services.in_use(ports, applied.snapshotter.root).containers)
    if not count:
        act = partial(remove.remove_setup, applied, ports, around, force=False)
        return f"{what}: the node is as it was without the agent", act
    why = (
        f"new containers start as before; the snapshotter stays for {count} that run on it, until "
        f"nydus-agent remove"
    )
    return f"{what}: {why}", partial(_stand_by, applied, ports, around)


def _stand_by(config: Config, ports: Ports, around: Surroundings) -> None:
    """containerd's default as it was before the first generation, and the snapshotter only for who runs on
    it.
    """
    less = replace(
        config, containerd=replace(config.containerd, mode=ContainerdMode.PLUGIN_ONLY),
        registries=replace(config.registries, include=()),
    )  # fmt: skip
    facts, effective, plan = change.make_plan(less, ports)
    mirror = (less.mirror.url, less.mirror.ping_url)
    intention = Intention(
        "rollback", plan, effective, versions.known_versions(facts), mirror, less.snapshotter.root, to=0,
        config=record(less),
    )  # fmt: skip
    change.change(less, ports, facts, intention, around)


def of_an_earlier_boot(ports: Ports) -> Pending | None:
    """The change that waits since before this boot: nobody will take it back but us. Raises FileError."""
    waits = confirm.pending(ports.files)
    return None if waits is None or waits.same_boot(ports.clock.moment()) else waits


def take_back_files(config: Config, ports: Ports, around: Surroundings, waits: Pending) -> TakenBack:
    """The same at boot, before the runtimes start: files only. The caller holds the lock, the journal is
    closed.

    Raises ApplyError NNA0402, NNA0403, PlanError.
    """
    newest = generations.newest(ports.files)
    what = f"generation {waits.generation} was not confirmed before the reboot"
    if newest is None or newest.id != waits.id:
        known = confirm.taken(ports.files)
        if known is None or known.id != waits.id:
            number = newest.number if newest is not None else 0
            known = confirm.note_taken(ports, waits, number, f"{what}: its change was cut off and is undone")
        confirm.tidy(ports)
        return known
    around.say(f"{what}; going back to what was before it")
    *before, _last = generations.history(ports.files)
    if before:
        why = f"{what}: the node is as it was after generation {before[-1].number}"
        taken = confirm.note_taken(ports, waits, newest.number + 1, why)
        _files_back(config, ports, around, before[-1].number)
    else:
        why = f"{what}: the node is as it was without the agent"
        taken = confirm.note_taken(ports, waits, newest.number + 1, why)
        remove.remove_files(generations.in_force(ports.files, config), ports, around)
    return taken


def _files_back(config: Config, ports: Ports, around: Surroundings, to: int) -> None:
    target = choose(ports.files, to)
    # The unit that recovers at boot may not use the network, and libnftables ends a process that may not.
    then, facts, plan = look_back(config, ports, target, probe_fence=False)
    intention = _intention(target, then, facts, remove.files_only(plan))
    change.carry_out(ports, intention, lambda: None, around)


@contextlib.contextmanager
def lock(ports: Ports, transaction_id: str) -> Iterator[None]:
    """Hold the lock, although the change may still be under way: it had its time. It is told to end and to
    undo what it did (also where it was stopped, by Ctrl-Z say); when it does not, it is killed, and we undo
    it.

    Raises LockedError where somebody else holds the lock all the time.
    """
    began = ports.clock.monotonic()
    told = killed = False
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(ports.ledger.lock("rollback"))
                break
            except LockedError:
                waited = ports.clock.monotonic() - began
                if waited >= PATIENCE_S:
                    raise
            waits = confirm.pending(ports.files)
            if waits is not None and waits.id == transaction_id:
                if not told:
                    told = ports.ledger.end_holder(waits.pid, kill=False)
                elif waited >= _GRACE_S and not killed:
                    killed = ports.ledger.end_holder(waits.pid, kill=True)
            ports.clock.sleep(_STEP_S)
        yield
