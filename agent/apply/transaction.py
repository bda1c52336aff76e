"""One change of the node: journal, steps, proof, and either a new generation or the node as it was before.

    lock (the caller's) → undo an open journal → facts → plan → [undo on disk → act] per step → proof →
    generation

The proof decides: a change whose proof fails is undone like one whose step failed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from agent.apply import confirm, generations, journal, recover, undo, unwind, waits
from agent.apply.execute import Executor, Progress, Stop
from agent.config.accepted import same
from agent.errors import AgentError, ApplyError, ContainerdError, FileError, of_a_bug
from agent.node.facts import Effective
from agent.plan.steps import Plan, RemoveFile, WriteFile
from agent.ports import Ports

Prove = Callable[[], AgentError | None]
"""Looks at the changed node: None, or the reason why the change must not stay."""


@dataclass(frozen=True, slots=True)
class Intention:
    """What is to be done, and in whose name."""

    verb: str  # "apply", "rollback", "repair" or "remove"
    plan: Plan
    effective: Effective | None
    versions: tuple[tuple[str, str], ...] = ()
    mirror: tuple[str, str] = ("", "")
    """The mirror's url and ping_url."""
    root: str = ""
    """The snapshotter's root directory."""
    to: int | None = None
    """Of a rollback: the generation whose state comes back."""
    config: Mapping[str, object] | None = None
    """What the node is changed for (`agent.config.accepted`)."""
    repairs: bool = False
    """It puts back what the newest generation has accepted, so it makes no generation of its own."""

    def is_in_force(self, last: generations.Generation | None) -> bool:
        """Whether the newest generation says the same, so that an empty plan leaves nothing to record.

        A rollback ends with an apply: even where no file changes, it is the operator's word that it holds no
        longer.
        """
        if last is None or (last.verb, last.to) != (self.verb, self.to):
            return False
        return same(last.config, self.config)


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """What came of it: `generation` is None where nothing had to be changed."""

    generation: int | None
    steps: tuple[Progress, ...] = ()

    @property
    def changed(self) -> bool:
        """Something on the node is other than before."""
        return bool(self.steps)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run is given from outside: where it reports and what may interrupt it."""

    say: Callable[[str], None]
    progress: Callable[[Progress], None]
    stop: Stop
    begin: Callable[[journal.Begin], None] = field(default=lambda _: None)
    """Called before the first act, and before the journal is opened: what it raises ends the change."""
    accepted: list[journal.Begin] = field(default_factory=list)
    """What has become of it: the changes that were accepted, which stand whatever fails from then on."""


def carry_out(ports: Ports, intention: Intention, prove: Prove, around: Surroundings) -> ChangeResult:
    """Run a plan as one transaction. The caller holds the lock and has called `recover.finish`.

    An empty plan over an accepted state writes nothing at all. Raises ApplyError NNA0402 (a step or the proof
    failed and the node was put back) or NNA0403 (something could not be put back; it names what).
    """
    last = generations.newest(ports.files)
    if intention.plan.empty and last is not None and intention.is_in_force(last):
        generations.publish(
            ports.files, replace(last, effective=intention.effective, mirror=intention.mirror)
        )
        return ChangeResult(None)
    begin = _begin(ports, intention, last.number + 1 if last is not None else 1)
    around.begin(begin)
    log = journal.ChangeJournal(ports.ledger)
    try:
        log.begin(begin, reserve=_reserve(intention.plan))
    except Exception:
        confirm.tidy(ports)
        raise
    took: list[Progress] = []

    def report(progress: Progress) -> None:
        took.append(progress)
        around.progress(progress)

    accepted = _generation(ports, begin, intention, ())
    try:
        Executor(ports, log, around.stop, report).run(intention.plan.steps)
        failed = prove()
        around.stop.check()
        if failed is None and intention.repairs:
            ports.ledger.close()  # the end of the journal is the moment of acceptance
        elif failed is None:
            accepted = _generation(ports, begin, intention, log.intents)
            generations.save(ports.files, accepted)
    except AgentError as error:
        failed = error
    except (KeyboardInterrupt, SystemExit) as error:
        failed = ApplyError("NNA0404", "interrupted", cause=f"{type(error).__name__} was raised")
    except Exception as error:  # noqa: BLE001 - whatever ends a change, the undo runs
        failed = of_a_bug(error)
    if failed is not None:
        _withdraw(ports, begin, failed)
        raise put_back(ports, begin, log.intents, failed, around.say)
    around.accepted.append(begin)
    if last is not None and intention.repairs:
        return ChangeResult(last.number, tuple(took))
    recover.settle(ports, accepted)
    return ChangeResult(begin.generation, tuple(took))


def _begin(ports: Ports, intention: Intention, number: int) -> journal.Begin:
    answered = waits.containerd_pid(ports) != 0
    try:
        points = ports.containerd.image_fs_info(deadline_s=waits.CALL_S).mountpoints if answered else ()
    except ContainerdError:
        points = ()
    return journal.Begin(
        secrets.token_hex(8), intention.verb, number, ports.clock.now(), answered,
        points[0] if points else "",
        intention.root,
    )  # fmt: skip


def _reserve(plan: Plan) -> int:
    """Bytes that the undo of all files needs, so that a full disk in the middle does not stop it."""
    befores = [step.content_before or b"" for step in plan.steps if isinstance(step, (WriteFile, RemoveFile))]
    return 2 * sum(len(before) for before in befores)


def _generation(
    ports: Ports, begin: journal.Begin, intention: Intention, intents: tuple[journal.Intent, ...]
) -> generations.Generation:
    lasting = (undo.PutBack, undo.UnitBack, undo.ReloadBack)
    steps = tuple(
        generations.DoneStep(one.what, one.undo) for one in intents if isinstance(one.undo, lasting)
    )
    return generations.Generation(
        begin.generation, begin.id, ports.clock.now(), intention.verb, steps, intention.effective,
        intention.versions,
        intention.mirror, intention.to, intention.config,
    )  # fmt: skip


def _withdraw(ports: Ports, begin: journal.Begin, failed: AgentError) -> None:
    """Before an undo: what is accepted must not be undone.

    Where that cannot be told, the next run decides.
    """
    try:
        generations.withdraw(ports.files, begin.generation)
    except Exception as error:  # noqa: BLE001 - an undo of what is accepted would be worse than none
        then = error if isinstance(error, AgentError) else of_a_bug(error)
        raise ApplyError(
            "NNA0403", f"{begin.verb} failed, and not everything could be put back",
            cause=f"[{failed.code}] {failed.what}: {failed.cause}; and then: {then}", seen=failed.seen,
            try_="mend what is named above, then: nydus-agent recover",
        ) from None  # fmt: skip


def put_back(
    ports: Ports,
    begin: journal.Begin,
    intents: tuple[journal.Intent, ...],
    failed: AgentError,
    say: Callable[[str], None],
) -> ApplyError:
    """Undo and prove what was before; the error to raise says both causes and what exactly was put back.

    The journal is closed only when everything was put back: otherwise the next run tries again.
    """
    unwind.unfailing(say)(f"failed: {failed.what}; putting the node back as it was")
    report = unwind.unwind(ports, journal.undos(intents), begin.root, jobs=True, say=say)
    wrong = unwind.witness(ports, answered=begin.containerd_answered, mountpoint=begin.mountpoint)
    if wrong:
        report.left.append(f"containerd after that: {wrong}")
    if report.complete:
        try:
            ports.ledger.close()
            confirm.tidy(ports)
        except FileError as error:
            report.left.append(str(error))
    cause = (
        f"[{failed.code}] {failed.what}: {failed.cause}" if failed.cause else f"[{failed.code}] {failed.what}"
    )
    seen = (*failed.seen, *(f"put back: {one}" for one in report.restored))
    if report.complete:
        return ApplyError(
            "NNA0402", f"{begin.verb} failed; the node is as it was before", cause=cause,
            seen=seen or ("nothing had been changed yet",), try_=failed.try_,
        )  # fmt: skip
    left = tuple(f"NOT put back: {one}" for one in report.left)
    return ApplyError(
        "NNA0403", f"{begin.verb} failed, and not everything could be put back",
        cause=f"{cause}; and then: {'; '.join(report.left)}", seen=(*seen, *left),
        try_="mend what is named above, then: nydus-agent recover",
    )  # fmt: skip
