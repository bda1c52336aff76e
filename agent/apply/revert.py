"""Taking back a change that nobody confirmed: an interrupted one is undone, an accepted one goes back to the
generation before it. Before the first generation the node was without the agent, so everything is removed;
only where containers run on the snapshotter by now it stays for them, because containerd could not clean up
after them without it, which would be worse than on a plain node: new containers start as before, and `remove`
ends it when the last of them is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from agent.apply import change, confirm, daemons, generations, recover, remove, rollback, transaction
from agent.apply.change import Run
from agent.apply.gate import Urgency
from agent.apply.proofs import CheckResult
from agent.apply.transaction import Intention, Surroundings
from agent.apply.unconfirmed import Pending, TakenBack
from agent.config import accepted
from agent.config.model import Config, ContainerdMode
from agent.errors import LockedError
from agent.node import versions
from agent.ports import Ports

PATIENCE_S = 600.0
"""For the lock, beyond the time that the change was given."""
_GRACE_S = 150.0
"""A change that is told to end lets one step end (90 s for a job) and undoes the others."""
_STEP_S = 0.5


def take_back(
    config: Config, ports: Ports, around: Surroundings, each: Callable[[CheckResult], None], *, only: str = ""
) -> TakenBack | None:
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
        why, go_back = _way_back(config, ports, around, each)
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


def _way_back(
    config: Config, ports: Ports, around: Surroundings, each: Callable[[CheckResult], None]
) -> tuple[str, Callable[[], object]]:
    """What becomes of the node, in words, and the act."""
    *before, last = generations.history(ports.files)
    what = f"generation {last.number} was not confirmed"
    if before:
        to = before[-1].number
        back = partial(rollback.roll_back, config, ports, around, each, to=to, urgency=Urgency.NOW)
        return f"{what}: the node is as it was after generation {to}", back
    applied = generations.in_force(ports.files, config)
    count = len(daemons.in_use(ports, applied.snapshotter.root).containers)
    if not count:
        act = partial(remove.remove_setup, applied, ports, around, force=False)
        return f"{what}: the node is as it was without the agent", act
    why = (
        f"new containers start as before; the snapshotter stays for {count} that run on it, until "
        f"nydus-agent remove"
    )
    return f"{what}: {why}", partial(_stand_by, applied, ports, around, each)


def _stand_by(
    config: Config, ports: Ports, around: Surroundings, each: Callable[[CheckResult], None]
) -> None:
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
        config=accepted.record(less),
    )  # fmt: skip
    change.carry_out(less, ports, facts, intention, Run(around, each))


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
    target = rollback.choose(ports.files, to)
    # The unit that recovers at boot may not use the network, and libnftables ends a process that may not.
    then, facts, plan = rollback.look_back(config, ports, target, probe_fence=False)
    intention = Intention(
        "rollback", remove.files_only(plan), target.effective, versions.known_versions(facts), target.mirror,
        then.snapshotter.root, target.state, target.config,
    )  # fmt: skip
    transaction.carry_out(ports, intention, lambda: None, around)


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
                held.enter_context(ports.ledger.lock("revert"))
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
