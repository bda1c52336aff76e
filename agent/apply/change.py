"""A change of the node, told from its beginning to its end.

    lock (the caller's) → undo an open journal → facts → plan → invariants → [undo on disk → act] per step →
    proof → generation

The proof decides: a change whose proof fails is undone like one whose step failed, to the last byte. No
printing, no signals: those are the verb's.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from agent.apply import confirm, gate, recover, unwind
from agent.apply.execute import Executor, Progress, Stop
from agent.apply.gate import Urgency
from agent.config import accepted
from agent.config.model import Config
from agent.documents.applied import CheckResult
from agent.errors import AgentError, ApplyError, ContainerdError, of_a_bug
from agent.facts.node import Effective, Facts
from agent.node import installed, waits
from agent.plan import diff, images
from agent.ports import Ports
from agent.programs import versions
from agent.proof import drift, inspection, proofs, prove
from agent.proof.proofs import Proof
from agent.records import generations, journal, undo
from agent.steps import Plan, RemoveFile, WriteFile

Prove: TypeAlias = Callable[[], AgentError | None]
"""Looks at the changed node: None, or the reason why the change must not stay."""


@dataclass(frozen=True, slots=True)
class Intention:
    """What is to be done, and in whose name."""

    verb: str  # "apply", "rollback", "repair" or "remove"
    plan: Plan
    effective: Effective | None
    versions: Mapping[str, str] = field(default_factory=dict)
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
        return accepted.same(last.config, self.config)


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
    facts = inspection.undoubted(inspection.observe_known(config, ports, look_at_images=True), ports)
    return facts, *diff.decided_plan(config, facts)


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
    config = images.kept_root(config, facts)
    intention = Intention(
        "apply", plan, effective, versions.known_versions(facts), (config.mirror.url, config.mirror.ping_url),
        config.snapshotter.root, config=accepted.record(installed.pinned(config, facts.programs)),
    )  # fmt: skip
    gate.check(config, ports, plan, urgency)
    return change(config, ports, facts, intention, Run(around, each, recovered))


def change(config: Config, ports: Ports, facts: Facts, intention: Intention, run: Run) -> Outcome:
    """Carry a plan out, prove it, and publish the proof. `config` is what the node is changed for. The caller
    holds the lock.

    Raises ApplyError NNA0402 (put back), NNA0403 (not everything could be), NNA0404 (a signal came before).
    """
    plan, effective = intention.plan, intention.effective
    assert effective is not None  # only a removal leaves none
    run.around.stop.check()
    before = waits.before_change(ports, gate.begun_anew(plan))
    made: list[Proof] = []

    def proof() -> AgentError | None:
        made.append(
            prove.run_checks(
                config, ports, facts, effective, before=before, each=run.each, top=prove.LAST_THAT_DECIDES
            )
        )
        return prove.must_undo(made[-1])

    try:
        result = carry_out(ports, intention, proof, run.around)
    except ApplyError as error:
        try:
            inspection.prove_again(config, ports)
        finally:
            raise error  # whatever becomes of the look at the node: it says what was put back
    if not made:
        inspection.prove_unchanged(config, ports, facts, effective)
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


def carry_out(ports: Ports, intention: Intention, prove_it: Prove, around: Surroundings) -> ChangeResult:
    """One transaction: journal, acts, proof, generation; or the bytes as they were. The caller holds the lock
    and has called `recover.finish`.

    An empty plan over an accepted state writes nothing at all. Raises ApplyError NNA0402 (a step or the proof
    failed and the node was put back) or NNA0403 (something could not be put back; it names what).
    """
    last = generations.newest(ports.files)
    if intention.plan.empty and last is not None and intention.is_in_force(last):
        kept = replace(last, effective=intention.effective, mirror=intention.mirror)
        generations.publish(ports.files, kept)
        return ChangeResult(None)
    begin = _begin(ports, intention, last.number + 1 if last is not None else 1)
    around.begin(begin)
    log = _open_journal(ports, begin, intention.plan)
    took: list[Progress] = []

    def report(progress: Progress) -> None:
        took.append(progress)
        around.progress(progress)

    failed: AgentError | None
    try:
        Executor(ports, log, around.stop, report).run(intention.plan.steps)
        failed = prove_it()
        around.stop.check()
        if failed is None:
            stands = _accept(ports, begin, intention, log)
    except AgentError as error:
        failed = error
    except (KeyboardInterrupt, SystemExit) as error:
        failed = ApplyError("NNA0404", "interrupted", cause=f"{type(error).__name__} was raised")
    except Exception as error:  # noqa: BLE001 - whatever ends a change, the undo runs
        failed = of_a_bug(error)
    if failed is not None:
        unwind.withdraw(ports, begin, failed)
        raise unwind.put_back(ports, begin, log.intents, failed, around.say)
    around.accepted.append(begin)
    if intention.repairs and last is not None:
        return ChangeResult(last.number, tuple(took))
    recover.settle(ports, stands)
    return ChangeResult(begin.generation, tuple(took))


def _open_journal(ports: Ports, begin: journal.Begin, plan: Plan) -> journal.ChangeJournal:
    log = journal.ChangeJournal(ports.ledger)
    try:
        log.begin(begin, reserve=_reserve(plan))
    except Exception:
        confirm.tidy(ports)
        raise
    return log


def _accept(
    ports: Ports, begin: journal.Begin, intention: Intention, log: journal.ChangeJournal
) -> generations.Generation:
    """The moment after which nothing is undone."""
    stands = _generation(ports, begin, intention, log.intents)
    if intention.repairs:
        ports.ledger.close()  # what it puts back is accepted already
    else:
        generations.save(ports.files, stands)
    return stands


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
