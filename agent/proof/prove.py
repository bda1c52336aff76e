"""The proof: its checks, run after a change, on a timer and on demand.

A check above a failed one is still run where that says something new; where it cannot, it says "not proved".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from agent.config.model import Config
from agent.documents.applied import CheckResult, CheckState
from agent.errors import AgentError, FileError, HttpError, NydusdError
from agent.facts.node import Effective, Facts
from agent.node.waits import Before
from agent.plan import renewal
from agent.ports import NydusdInfo, Ports
from agent.programs import versions
from agent.programs.versions import TAKES_CREDENTIALS
from agent.proof import checks_mirror, checks_nydusd, checks_read, checks_runtime, drift, proofs
from agent.proof.checks_nydusd import backend_of
from agent.proof.checks_runtime import CALL_S, ProofView
from agent.proof.drift import DriftFound
from agent.proof.proofs import Proof
from agent.registry.docker_config import source_of

_MUST_HOLD = range(1, 8)
"""Checks whose failure undoes a change. What lies above is the mirror's and running containers' affair: a
dead mirror must not keep a node from being set up, because the route to the origin is part of the set-up."""

_NEEDS = {3: (2,), 5: (4,), 6: (4, 5), 7: (3, 4, 5), 8: (), 10: (1, 9)}
"""Checks without which a check can say nothing of its own."""

LAST_THAT_DECIDES = 8
"""Checks above are about a node that is set up: the mirror as the daemon sees it, and a read through it."""

_ROUTE_S = 5.0
_ROUTE_STEP_S = 0.1

NAMES = {
    1: "binaries", 2: "snapshotter unit", 3: "snapshotter answers", 4: "containerd answers",
    5: "plugin registered",
    6: "CRI uses it", 7: "snapshot made", 8: "running nydusd", 9: "mirror", 10: "real read",
}  # fmt: skip


def run_checks(
    config: Config,
    ports: Ports,
    facts: Facts,
    effective: Effective,
    *,
    before: Before | None = None,
    each: Callable[[CheckResult], None] = lambda _: None,
    below: tuple[CheckResult, ...] = (),
    top: int = 10,
    looked: DriftFound | None = None,
) -> Proof:
    """Run the checks above `below` (those were run a moment ago) to `top`; `each` is told of every check.
    `looked` is a look for drift of just now; without it a whole proof looks by itself.

    Raises nothing that a port raises.
    """
    view = ProofView(ports, config, facts, before or Before())
    looks: dict[int, Callable[[], CheckResult]] = {
        1: lambda: checks_runtime.binaries(view),
        2: lambda: checks_runtime.snapshotter_unit(view),
        3: lambda: checks_runtime.snapshotter_socket(view),
        4: lambda: checks_runtime.containerd(view),
        5: lambda: checks_runtime.plugin(view),
        6: lambda: checks_runtime.cri(view),
        7: lambda: checks_runtime.prepare(view),
        8: lambda: checks_nydusd.running(view, effective),
        9: lambda: checks_mirror.mirror(view, effective),
        10: lambda: checks_read.real_read(view, effective),
    }
    found = {check.number: check for check in below}
    for number, look in looks.items():
        if number in found or number > top:
            continue
        found[number] = _blocked(number, found) or look()
        each(found[number])
    if looked is None and top == max(looks):
        # A change that is not accepted yet is not what the records say: only a whole proof looks for drift.
        looked = drift.find_drift(config, ports)
    looked = looked or DriftFound(None)
    keeping = unrenewed_images(view) if top == max(looks) else ()
    return Proof(
        ports.clock.now(), tuple(found.values()), looked.findings, versions.known_versions(facts),
        unrenewed=keeping,
        unseen=looked.unseen,
    )  # fmt: skip


def _blocked(number: int, found: dict[int, CheckResult]) -> CheckResult | None:
    for below in _NEEDS.get(number, ()):
        if found[below].state is CheckState.FAILED:
            return proofs.not_proved(number, NAMES[number], f"check {below} ({NAMES[below]}) failed")
    return None


def await_route(ports: Ports) -> None:
    """Wait a moment until the daemon has read what was applied: before that, reads go to the origin for
    it.
    """
    end = ports.clock.monotonic() + _ROUTE_S
    while ports.clock.monotonic() < end:
        if not checks_mirror.at_origin(checks_mirror.daemon_status(ports)):
            return
        ports.clock.sleep(_ROUTE_STEP_S)


def must_undo(found: Proof) -> AgentError | None:
    """The reason why a change must not stay, None where it may."""
    for check in found.checks:
        if check.number in _MUST_HOLD and check.state in (CheckState.FAILED, CheckState.UNKNOWN):
            return check.error()
    return None


def unrenewed_images(view: ProofView) -> tuple[str, ...]:
    """Images in use whose credential expires and is not renewed, each with what gives it, and the reason.

    No check fails by it: nothing is wrong yet. What a nydusd can do is decided by its own version, not by
    that of the program that lies on the node now. Nothing raises; what does not answer is left out (check 8
    says so).
    """
    if not (view.facts.credentials.expiring and view.config.registries.renew_s):
        return ()
    missing = "" if renewal.in_force(view.facts) else _missing(view)
    found: list[str] = []
    public = _public(view)
    for info in _daemons(view):
        found += (f"{image} {why}" for image, why in _images(view, info, missing) if image not in public)
    return tuple(dict.fromkeys(found))


def _daemons(view: ProofView) -> Iterator[NydusdInfo]:
    with contextlib.suppress(NydusdError):
        for socket in view.ports.nydusd.sockets(view.config.snapshotter.root):
            with contextlib.suppress(NydusdError):
                yield view.ports.nydusd.info(socket, deadline_s=CALL_S)


def _missing(view: ProofView) -> str:
    """Why the snapshotter is not told to renew."""
    return ", ".join(renewal.obstacles(view.facts)) or "the snapshotter is not told to: nydus-agent apply"


def _public(view: ProofView) -> frozenset[str]:
    """Images of which no nydusd was given a credential: everyone may read them, whatever gives those of all
    registries. One that got a credential in a second mount, after a login, is not among them.
    """
    try:
        found = checks_read.mounts(view.ports, view.config.snapshotter.root)
    except (HttpError, FileError, ValueError):
        return frozenset()  # check 10 says why
    private = {mount.image for mount in found if mount.private}
    return frozenset(mount.image for mount in found) - private


def _images(view: ProofView, info: NydusdInfo, missing: str) -> Iterator[tuple[str, str]]:
    why = missing or renewal.too_old(
        "its nydusd", versions.parsed(info.version), info.version, TAKES_CREDENTIALS
    )
    for _, config in info.backends if why else ():
        backend = backend_of(config)
        host = str(backend.get("host", ""))
        source = source_of(view.facts.credentials.expiring, host)
        if source:
            yield f"{host}/{backend.get('repo', '')}", f"({source}): {why}"
