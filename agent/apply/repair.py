"""`repair` as a whole: put back what others changed of what was applied, as one proved transaction.

It knows no mirror: a mirror that is at fault is no drift, so it restarts nothing. What the configuration
wants other than was applied is not its business either; that is what `apply` is for.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from agent import paths
from agent.apply import change, gate, recover
from agent.apply.change import Intention, Surroundings
from agent.apply.gate import Urgency
from agent.config.accepted import restored
from agent.config.model import Config
from agent.documents.drift import Finding
from agent.errors import ProcessError
from agent.facts.node import Facts, FileFact, UnitFact
from agent.node.observe import observe
from agent.plan import limits
from agent.plan.repair import Recorded, Running
from agent.plan.repair import repair as plan_of
from agent.ports import Ports
from agent.proof import drift, drift_running
from agent.proof.drift import DriftFound
from agent.proof.proofs import Proof
from agent.steps import Plan, WriteFile

_RUN_S = 10.0
_CLOCK_TICK_S = 2.0
"""ps tells whole seconds: within this time of a file's change nobody can say what was first."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What a repair would do now."""

    looked: DriftFound
    facts: Facts | None
    plan: Plan
    mend: tuple[Finding, ...] = ()
    """What it would put back."""
    waiting: tuple[str, ...] = ()
    """Why something that could be put back is not, yet or any more."""


@dataclass(frozen=True, slots=True)
class RepairOutcome:
    """What a repair has done. `proof` None: there was nothing to put back."""

    ready: Ready
    steps: tuple[str, ...] = ()
    proof: Proof | None = None

    @property
    def left(self) -> tuple[Finding, ...]:
        """What is not as it was applied after that."""
        return self.proof.findings if self.proof is not None else self.ready.looked.findings

    @property
    def unseen(self) -> tuple[str, ...]:
        """What could not be looked at after that."""
        return self.proof.unseen if self.proof is not None else self.ready.looked.unseen


def due(ports: Ports, looked: DriftFound) -> tuple[Finding, ...]:
    """What may be put back now by itself, with regard to earlier repairs. Raises FileError."""
    account = {one.subject: one for one in drift.read_repairs(ports.files)}
    now = ports.clock.now()
    return tuple(one for one in looked.repairable if limits.repair_wait_s(account.get(one.subject), now) == 0)


def plan_repair(config: Config, ports: Ports, urgency: Urgency) -> Ready:
    """What a repair would do. Raises FileError."""
    looked = drift.find_drift(config, ports)
    last = looked.generation
    if last is None:
        return Ready(looked, None, Plan(()))
    applied = restored(config, last.config)
    mend = due(ports, looked) if urgency is Urgency.BY_ITSELF else looked.repairable
    held = (one.subject for one in looked.repairable if one not in mend)
    waiting = tuple(f"{subject} is not put back now: it was put back a short while ago" for subject in held)
    if not mend:
        return Ready(looked, None, Plan(()), waiting=waiting)
    facts = observe(applied, ports, extra_paths=tuple(one.path for one in looked.records))
    running = _running(ports, looked.records, facts)
    plan = plan_of(looked.differences, mend, facts, running, applied.containerd)
    return Ready(looked, facts, plan, mend, waiting)


def run(config: Config, ports: Ports, around: Surroundings, *, urgency: Urgency) -> RepairOutcome:
    """Put back what may be put back, and prove it. The caller holds the lock.

    Raises PlanError, ApplyError NNA0415 and NNA0416 (nothing touched), NNA0402 (as before), NNA0403,
    FileError.
    """
    recover.finish(ports, jobs=True, say=around.say)
    ready = plan_repair(config, ports, urgency)
    last = ready.looked.generation
    if last is None or ready.facts is None or ready.plan.empty:
        drift.tell(ports, ready.looked)
        return RepairOutcome(ready)
    gate.check(config, ports, ready.plan, urgency, "repair")
    around.stop.check()
    # Before the first step: a repair that dies in its middle counts too.
    _account(ports, [one.subject for one in ready.mend], urgency)
    _keep(ports, ready.plan)
    applied = restored(config, last.config)
    intention = Intention(
        "repair", ready.plan, last.effective, last.versions, last.mirror,
        applied.snapshotter.root, last.to, last.config,
    )  # fmt: skip
    done = change.change(applied, ports, ready.facts, intention, around)
    return RepairOutcome(ready, tuple(step.what for step in done.steps), done.proof)


def _account(ports: Ports, subjects: Sequence[str], urgency: Urgency) -> None:
    known = drift.read_repairs(ports.files)
    if urgency is Urgency.BY_ITSELF:
        drift.write_repairs(ports.files, limits.note_repairs(known, subjects, ports.clock.now()))
    else:
        drift.write_repairs(ports.files, limits.forget_repairs(known, subjects))


def _keep(ports: Ports, plan: Plan) -> None:
    """What is overwritten stays to be read, the last of each file: somebody may have meant it.

    Raises FileError.
    """
    for step in plan.steps:
        if isinstance(step, WriteFile) and step.content_before and step.content_before != step.content:
            path = f"{paths.REPLACED}/{step.path.strip('/').replace('/', '-')}"
            there = ports.files.read(path)
            seen = there.sha256 if there is not None else ""
            ports.files.replace(path, step.content_before, mode=0o600, uid=0, gid=0, expect_sha256=seen)


def _running(ports: Ports, records: Sequence[Recorded], facts: Facts) -> Running:
    problem = drift_running.running_problem(ports, drift_running.applied_keys(records))
    unit = facts.snapshotter_unit
    pid = unit.main_pid if isinstance(unit, UnitFact) else 0
    runs_for = _age_s(ports, pid)
    read = set()
    for record in records:
        there = isinstance(facts.file(record.path), FileFact)
        ago = _changed_ago_s(ports, record.path if there else posixpath.dirname(record.path))
        if runs_for is None or ago is None or ago + _CLOCK_TICK_S >= runs_for:
            read.add(record.path)
    return Running(problem, frozenset(read))


def _age_s(ports: Ports, pid: int) -> float | None:
    """For how long a process has run; None where that cannot be told."""
    try:
        text = (
            ports.processes.run(["ps", "-o", "etimes=", "-p", str(pid)], deadline_s=_RUN_S).stdout
            if pid
            else ""
        )
        return float(text)
    except (ProcessError, ValueError):
        return None


def _changed_ago_s(ports: Ports, path: str) -> float | None:
    """How long ago a file's or directory's inode was changed; None where that cannot be told."""
    try:
        text = ports.processes.run(["stat", "-L", "-c", "%Z", path], deadline_s=_RUN_S).stdout
        return max(0.0, ports.clock.now() - float(text))
    except (ProcessError, ValueError):
        return None
