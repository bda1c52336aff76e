"""A change of the node, told from its beginning to its end.

    lock (the caller's) → undo an open journal → facts → plan → invariants → [undo on disk → act] per step →
    proof → generation

The proof decides: a change whose proof fails is undone like one whose step failed, to the last byte. No
printing, no signals: those are the verb's.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from agent.apply import confirm, gate, recover
from agent.apply.execute import Executor, Progress, Stop
from agent.apply.gate import Urgency
from agent.config import accepted
from agent.config.model import Config
from agent.documents.status import CheckResult
from agent.errors import AgentError, ApplyError, ContainerdError, of_a_bug
from agent.facts.node import Effective, Facts
from agent.node import installed, waits
from agent.plan import diff, images
from agent.ports import Ports
from agent.programs import versions
from agent.proof import drift, inspection, proofs
from agent.proof.proofs import Proof
from agent.records import generations, journal
from agent.steps import Plan, RemoveFile, WriteFile

Prove: TypeAlias = Callable[[], AgentError | None]
"""Looks at the changed node: None, or the reason why the change must not stay."""


@dataclass(frozen=True, slots=True)
class Intention:
    """What is to be done, and in whose name."""

    verb: str
    """ "apply", "rollback", "remove", or "repair": that puts back what the newest generation has accepted, so
    it makes no generation of its own."""
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

    def is_in_force(self, last: generations.Generation) -> bool:
        """Whether the newest generation says the same, so that an empty plan leaves nothing to record.

        A rollback ends with an apply: even where no file changes, it is the operator's word that it holds no
        longer.
        """
        return (last.verb, last.to) == (self.verb, self.to) and accepted.same(last.config, self.config)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run is given from outside: where it reports and what may interrupt it."""

    say: Callable[[str], None]
    progress: Callable[[Progress], None]
    stop: Stop
    each: Callable[[CheckResult], None] = field(default=lambda _: None)
    """Is told of every check of the proof."""
    begin: Callable[[journal.Begin], None] = field(default=lambda _: None)
    """Called before the first act, and before the journal is opened: what it raises ends the change."""
    accepted: list[journal.Begin] = field(default_factory=list)
    """What has become of it: the changes that were accepted, which stand whatever fails from then on."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did."""

    plan: Plan
    effective: Effective | None
    generation: int | None = None
    """That it made; None where nothing had to be changed."""
    steps: tuple[Progress, ...] = ()
    proof: Proof | None = None
    """None where nothing had to be changed."""
    recovered: recover.Recovered | None = None
    """What was found to do first."""

    @property
    def changed(self) -> bool:
        """Something on the node is other than before."""
        return bool(self.steps)


Demand: TypeAlias = Callable[[Config, Facts, Effective | None, Plan], None]
"""Looks at a plan, and at what it was made of, before it is carried out; raises PlanError where it is not the
wanted one."""


def anything(_config: Config, _facts: Facts, _effective: Effective | None, _plan: Plan) -> None:
    """The demand of who wants whatever plan is made."""


def make_plan(config: Config, ports: Ports) -> tuple[Facts, Effective, Plan]:
    """The node, what "auto" comes to on it, and the plan. Raises PlanError with every reason against one."""
    facts = inspection.undoubted(inspection.observe_known(config, ports, look_at_images=True), ports)
    return facts, *diff.decided_plan(config, facts)


def apply(
    config: Config,
    ports: Ports,
    around: Surroundings,
    *,
    urgency: Urgency = Urgency.BY_HAND,
    demand: Demand = anything,
) -> Outcome:
    """Change the node into what `config` wants, and prove it. The caller holds the lock. `demand` may refuse
    the plan.

    Raises PlanError, ApplyError NNA0415 to NNA0417 (nothing touched), NNA0402 (put back), NNA0403 (not
    everything could be).
    """
    restart = config.containerd.restart
    config = gate.wanted(config, urgency)
    recovered = recover.finish(ports, jobs=True, say=around.say)
    confirm.refuse_another(ports)
    facts, effective, plan = make_plan(config, ports)
    demand(config, facts, effective, plan)
    config = images.kept_root(config, facts)
    then = installed.pinned(config, facts.programs)
    # What is recorded is the operator's word, not that he asks for the restart now.
    then = replace(then, containerd=replace(then.containerd, restart=restart))
    intention = Intention(
        "apply", plan, effective, versions.known_versions(facts), (config.mirror.url, config.mirror.ping_url),
        config.snapshotter.root, config=accepted.record(then),
    )  # fmt: skip
    gate.check(config, ports, plan, urgency)
    return replace(change(config, ports, facts, intention, around), recovered=recovered)


def change(config: Config, ports: Ports, facts: Facts, intention: Intention, around: Surroundings) -> Outcome:
    """Carry a plan out, prove it, and publish the proof. `config` is what the node is changed for. The caller
    holds the lock.

    Raises ApplyError NNA0402 (put back), NNA0403 (not everything could be), NNA0404 (a signal came before).
    """
    effective = intention.effective
    assert effective is not None  # only a removal leaves none
    around.stop.check()
    before = waits.before_change(ports, gate.begun_anew(intention.plan))
    deciding: list[Proof] = []

    def prove() -> AgentError | None:
        top = inspection.LAST_THAT_DECIDES
        deciding.append(
            inspection.run_checks(config, ports, facts, effective, before=before, each=around.each, top=top)
        )
        return inspection.must_undo(deciding[-1])

    try:
        outcome = carry_out(ports, intention, prove, around)
    except ApplyError as error:
        try:
            inspection.prove_again(config, ports)
        finally:
            raise error  # whatever becomes of the look at the node: it says what was put back
    if not deciding:
        inspection.prove_unchanged(config, ports, facts, effective)
        return outcome
    inspection.await_route(ports)
    looked = drift.find_drift(config, ports)
    below = deciding[-1].checks
    proof = inspection.run_checks(
        config, ports, facts, effective, before=before, each=around.each, below=below, looked=looked
    )
    proofs.publish(ports.files, proof)
    drift.tell(ports, looked)
    return replace(outcome, proof=proof)


def carry_out(ports: Ports, intention: Intention, prove: Prove, around: Surroundings) -> Outcome:
    """One transaction: journal, acts, proof, generation; or the bytes as they were. The caller holds the lock
    and has called `recover.finish`.

    An empty plan over an accepted state writes nothing at all. Raises ApplyError NNA0402 (a step or the proof
    failed and the node was put back) or NNA0403 (something could not be put back; it names what).
    """
    plan, effective = intention.plan, intention.effective
    last = generations.newest(ports.files)
    if plan.empty and last is not None and intention.is_in_force(last):
        generations.publish(ports.files, replace(last, effective=effective, mirror=intention.mirror))
        return Outcome(plan, effective)
    begin = _begin(ports, intention, last.number + 1 if last is not None else 1)
    around.begin(begin)
    log = journal.ChangeJournal(ports.ledger)
    try:
        log.begin(begin, reserve=_reserve(plan))
    except Exception:
        confirm.tidy(ports)
        raise
    steps: list[Progress] = []

    def report(progress: Progress) -> None:
        steps.append(progress)
        around.progress(progress)

    stands, failed = last, None
    try:
        Executor(ports, log, around.stop, report).run(plan.steps)
        failed = prove()
        around.stop.check()
        if failed is None and intention.verb == "repair":
            ports.ledger.close()  # what it puts back is accepted already
        elif failed is None:
            stands = _generation(ports, begin, intention, log.intents)
            generations.save(ports.files, stands)
    except AgentError as error:
        failed = error
    except (KeyboardInterrupt, SystemExit) as error:
        failed = ApplyError("NNA0404", "interrupted", cause=f"{type(error).__name__} was raised")
    except Exception as error:  # noqa: BLE001 - whatever ends a change, the undo runs
        failed = of_a_bug(error)
    if failed is not None:
        raise recover.put_back(ports, begin, log.intents, failed, around.say)
    around.accepted.append(begin)
    if stands is not None and stands is not last:
        recover.settle(ports, stands)
    return Outcome(plan, effective, stands.number if stands is not None else None, tuple(steps))


def _begin(ports: Ports, intention: Intention, number: int) -> journal.Begin:
    answered, mountpoint = waits.containerd_pid(ports) != 0, ""
    if answered:
        with contextlib.suppress(ContainerdError):
            mountpoint = recover.first_mountpoint(ports)
    return journal.Begin(
        secrets.token_hex(8), intention.verb, number, ports.clock.now(), answered, mountpoint, intention.root
    )


def _reserve(plan: Plan) -> int:
    """Bytes that the undo of all files needs, so that a full disk in the middle does not stop it."""
    befores = [step.content_before or b"" for step in plan.steps if isinstance(step, (WriteFile, RemoveFile))]
    return 2 * sum(len(before) for before in befores)


def _generation(
    ports: Ports, begin: journal.Begin, intention: Intention, intents: tuple[journal.Intent, ...]
) -> generations.Generation:
    lasting = (journal.PutBack, journal.UnitBack, journal.ReloadBack)
    steps = tuple(
        generations.DoneStep(one.what, one.undo) for one in intents if isinstance(one.undo, lasting)
    )
    return generations.Generation(
        begin.generation, begin.id, ports.clock.now(), intention.verb, steps, intention.effective,
        intention.versions, intention.mirror, intention.to, intention.config,
    )  # fmt: skip
