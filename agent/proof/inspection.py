"""The proof: its checks, run after a change, on a timer and on demand, and what a change publishes of it.

The node is judged by what was applied. A check above a failed one is still run where that says something
new; where it cannot, it says "not proved".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.config.accepted import restored
from agent.config.model import Config
from agent.documents.status import CheckResult, CheckState
from agent.errors import AgentError, ApplyError, FileError, PlanError, PortError
from agent.facts.node import Effective, Facts, Unknown
from agent.health.evidence import Route
from agent.health.state import HealthState
from agent.node import installed
from agent.node.observe import observe
from agent.node.waits import Before
from agent.plan import decide, diff
from agent.plan.show import what
from agent.ports import Ports
from agent.programs import versions
from agent.proof import checks_mirror, checks_nydusd, checks_runtime, drift, proofs
from agent.proof.checks_mirror import at_origin, daemon_status
from agent.proof.drift import DriftFound
from agent.proof.proofs import Proof, ProofView
from agent.records import generations
from agent.steps import RemoveFile, WriteFile


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the proof; its number is its place in `CHECKS`."""

    name: str
    run: Callable[[ProofView], CheckResult]
    """It may raise PortError."""
    needs: tuple[int, ...] = ()
    """Checks without which it can say nothing of its own."""


CHECKS = (
    Check("binaries", checks_runtime.binaries),
    Check("snapshotter unit", checks_runtime.snapshotter_unit),
    Check("snapshotter answers", checks_runtime.snapshotter_socket, (2,)),
    Check("containerd answers", checks_runtime.containerd),
    Check("plugin registered", checks_runtime.plugin, (4,)),
    Check("CRI uses it", checks_runtime.cri, (4, 5)),
    Check("snapshot made", checks_runtime.prepare, (3, 4, 5)),
    Check("running nydusd", checks_nydusd.running),
    Check("mirror", checks_mirror.mirror),
    Check("real read", checks_mirror.real_read, (1, 9)),
)
_MUST_HOLD = range(1, 8)
"""Checks whose failure undoes a change. What lies above is the mirror's and running containers' affair: a
dead mirror must not keep a node from being set up, because the route to the origin is part of the set-up."""
LAST_THAT_DECIDES = 8
"""Checks above are about a node that is set up: the mirror as the daemon sees it, and a read through it."""

_ROUTE_S = 5.0
_ROUTE_STEP_S = 0.1


def run_checks(
    config: Config,
    ports: Ports,
    facts: Facts,
    effective: Effective,
    *,
    before: Before | None = None,
    each: Callable[[CheckResult], None] = lambda _: None,
    below: tuple[CheckResult, ...] = (),
    top: int = len(CHECKS),
    looked: DriftFound | None = None,
) -> Proof:
    """Run the checks above `below` (those were run a moment ago) to `top`; `each` is told of every check.
    `looked` is a look for drift of just now; without it a whole proof looks by itself. A check that ends with
    an error of a port is unknown.

    Raises nothing that a port raises.
    """
    view = ProofView(ports, config, facts, effective, before or Before())
    found = list(below)
    for number, check in enumerate(CHECKS[len(below) : top], len(below) + 1):
        lacks = (need for need in check.needs if found[need - 1].state is CheckState.FAILED)
        lacking = next(lacks, None)
        try:
            result = (
                check.run(view)
                if lacking is None
                else proofs.not_proved(f"check {lacking} ({CHECKS[lacking - 1].name}) failed")
            )
        except PortError as error:
            result = proofs.unknown(error.code, error)
        found.append(replace(result, number=number, name=check.name))
        each(found[-1])
    unrenewed: tuple[str, ...] = ()
    if top == len(CHECKS):
        # A change that is not accepted yet is not what the records say: only a whole proof looks for drift.
        looked = looked or drift.find_drift(config, ports)
        unrenewed = checks_nydusd.unrenewed_images(view)
    looked = looked or DriftFound(None)
    return Proof(
        ports.clock.now(), tuple(found), looked.findings, versions.known_versions(facts),
        unrenewed=unrenewed, unseen=looked.unseen,
    )  # fmt: skip


def await_route(ports: Ports) -> None:
    """Wait a moment until the daemon has read what was applied: before that, reads go to the origin for
    it.
    """
    end = ports.clock.monotonic() + _ROUTE_S
    while at_origin(daemon_status(ports)) and ports.clock.monotonic() < end:
        ports.clock.sleep(_ROUTE_STEP_S)


def must_undo(found: Proof) -> AgentError | None:
    """The reason why a change must not stay, None where it may."""
    for check in found.checks:
        if check.number in _MUST_HOLD and check.state in (CheckState.FAILED, CheckState.UNKNOWN):
            return check.error()
    return None


def observe_known(config: Config, ports: Ports, *, look_at_images: bool = False) -> Facts:
    """The node, with all files that were ever applied."""
    known = generations.file_histories(generations.history(ports.files))
    return observe(config, ports, look_at_images=look_at_images, extra_paths=tuple(one.path for one in known))


def undoubted(facts: Facts, ports: Ports) -> Facts:
    """What a mirror says of registries while the agent judges it bad proves nothing, so what was proved
    before is kept: a fault of the mirror must never restart anything. (Where it is fenced, root's questions
    do not even reach it.)
    """
    daemon = daemon_status(ports)
    if daemon is None or daemon.health_state not in (HealthState.DOWN, HealthState.SUSPECT):
        return facts
    doubt = Unknown(f"the mirror is {daemon.health_state}")
    canaries = tuple(replace(canary, ok=doubt) for canary in facts.tls_canaries)
    return replace(facts, tls_canaries=canaries, mirror_reads_ns=doubt)


def inspect(
    config: Config,
    ports: Ports,
    each: Callable[[CheckResult], None] = lambda _: None,
    looked: DriftFound | None = None,
) -> Proof:
    """Run the checks on the node as it is, and judge it by the configuration that was applied. `looked`: see
    `run_checks`.

    Raises ApplyError NNA0410, FileError.
    """
    last = generations.applied(ports.files)
    applied = restored(config, last.config) if last is not None else config
    facts = observe_known(applied, ports)
    effective = last.effective if last is not None else None
    if effective is None:
        effective, _refusals = decide.choose(applied, facts)
    proof = run_checks(applied, ports, facts, effective, each=each, looked=looked)
    same = last is None or applied == installed.resolved(config, ports.files)
    now = facts if same else observe_known(config, ports)
    return replace(proof, pending=_pending(config, ports, now, proof))


def pending(config: Config, ports: Ports, proof: Proof) -> tuple[str, ...]:
    """What `config` wants other than was applied, in words. Raises ApplyError NNA0410, FileError."""
    return _pending(config, ports, observe_known(config, ports), proof)


def _pending(config: Config, ports: Ports, facts: Facts, proof: Proof) -> tuple[str, ...]:
    """What others changed is drift, and told as that; what cannot be planned is told by `plan`."""
    drifted = {one.subject for one in proof.findings}
    try:
        steps = (
            diff.plan(config, undoubted(facts, ports)).steps
            if generations.applied(ports.files) is not None
            else ()
        )
    except PlanError:
        return ()
    files = (step for step in steps if isinstance(step, (WriteFile, RemoveFile)))
    return tuple(what(step) for step in files if step.path not in drifted)


def prove_unchanged(config: Config, ports: Ports, facts: Facts, effective: Effective) -> None:
    """Nothing was to be done.

    What was not proved since the boot, or with programs that were replaced since, is now.
    """
    replaced, last = drift.programs_replaced(ports.files), generations.applied(ports.files)
    if not replaced and proofs.published_since_boot(ports.files):
        return
    found = run_checks(config, ports, facts, effective)
    proofs.publish(ports.files, found)
    if replaced and last is not None and must_undo(found) is None:
        drift.publish_expected(ports, replace(last, versions=versions.known_versions(facts)))
        drift.tell(ports, drift.find_drift(config, ports))


def note_origins(config: Config, ports: Ports) -> None:
    """Tell the daemon of registries that came into use, while reads go to the mirror: it must know whether an
    origin lives before it fences the mirror, and it starts to watch anew when it reads of another.
    """
    daemon = daemon_status(ports)
    if daemon is not None and daemon.route is Route.MIRROR:
        applied = generations.in_force(ports.files, config)
        generations.note_origins(ports.files, checks_nydusd.registries(applied, ports))


def prove_again(config: Config, ports: Ports) -> None:
    """After an undo: what is published must be about the node as it is again, not as it was for a moment."""
    with contextlib.suppress(ApplyError, FileError):
        if generations.applied(ports.files) is not None:
            proofs.publish(ports.files, inspect(config, ports))
