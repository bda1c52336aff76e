"""The node as it is, judged by what was applied: the checks without a change, and what a change publishes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from agent.config.accepted import restored
from agent.config.model import Config
from agent.documents.applied import CheckResult
from agent.errors import ApplyError, FileError, PlanError
from agent.facts.node import Effective, Facts, Unknown
from agent.health.evidence import Route
from agent.health.state import HealthState
from agent.node import installed
from agent.node.observe import observe
from agent.plan import decide, diff
from agent.plan.show import what
from agent.ports import Ports
from agent.programs import versions
from agent.proof import checks_nydusd, drift, expected, proofs, prove
from agent.proof.checks_mirror import daemon_status
from agent.proof.drift import DriftFound
from agent.proof.proofs import Proof
from agent.records import generations
from agent.steps import RemoveFile, WriteFile


def observe_known(config: Config, ports: Ports, *, look_at_images: bool = False) -> Facts:
    """The node, with all files that were ever applied."""
    known = generations.originals(generations.history(ports.files))
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
    `prove.run_checks`.

    Raises ApplyError NNA0410, FileError.
    """
    last = generations.applied(ports.files)
    applied = restored(config, last.config) if last is not None else config
    facts = observe_known(applied, ports)
    effective = last.effective if last is not None else None
    if effective is None:
        effective, _refusals = decide.choose(applied, facts)
    proof = prove.run_checks(applied, ports, facts, effective, each=each, looked=looked)
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
    daemon = daemon_status(ports)
    if daemon is not None and daemon.route is Route.MIRROR:
        applied = generations.in_force(ports.files, config)
        generations.note_origins(ports.files, checks_nydusd.registries(applied, ports))


def prove_again(config: Config, ports: Ports) -> None:
    """After an undo: what is published must be about the node as it is again, not as it was for a moment."""
    with contextlib.suppress(ApplyError, FileError):
        if generations.applied(ports.files) is not None:
            proofs.publish(ports.files, inspect(config, ports))
