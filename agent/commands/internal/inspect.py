"""`nydus-agent inspect`: run the checks and publish the result for everyone.

Run by its timer and on request.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from typing import Any

from agent import paths, wire
from agent.apply import leftovers, repair
from agent.commands.context import Context
from agent.commands.internal import after_dpkg
from agent.commands.running import busy, config_or_record, proof_summary
from agent.config.model import Config, Repair
from agent.errors import AgentError, Exit, FileError, LockedError, ProcessError
from agent.ports import Files, Ports
from agent.proof import drift, inspection, proofs
from agent.records import generations, json_files

HELP = "run the checks and publish the result"
NEEDS_ROOT = True
_DPKG_S = 60.0
"""So long an inspection waits for dpkg; then it looks all the same."""

_START_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace, context: Context) -> Exit:  # noqa: ARG001 - one signature for all verbs
    """Exit code 0 where a result was published, whatever it says. Raises FileError."""
    config = config_or_record(context)
    ports = wire.root_ports(config)
    with contextlib.suppress(LockedError):  # in the middle of an upgrade nothing that is seen lasts
        after_dpkg.wait(wire.package_manager(context.root), wire.clock(), deadline_s=_DPKG_S)
    # First: a request that comes while we prove is for the next proof.
    try:
        ports.files.empty(paths.REQUESTS)
    except FileError as error:
        context.console.warn(f"the request stays: {error}")
    if busy(ports.ledger, "inspect"):
        context.console.line("a change or a drill is under way: a change runs the checks itself")
        return Exit.OK
    if generations.applied(ports.files) is None:
        context.console.line("nothing was applied on this node yet")
        return Exit.OK
    try:
        return _prove(context, config, ports)
    except AgentError:
        # A removal takes away what is being looked at: that is no failure of this inspection.
        if _overtaken(context, ports):
            return Exit.OK
        raise


def _prove(context: Context, config: Config, ports: Ports) -> Exit:
    # `status` goes on telling only what is still so.
    leftovers.settle(ports.files, ports.containerd, context.path("/proc"))
    looked = drift.find_drift(config, ports)
    if _overtaken(context, ports):
        return Exit.OK
    drift.tell(ports, looked)  # before the proof, which takes seconds
    _begin_repair(config, ports, looked)
    proof = inspection.inspect(config, ports, looked=looked)
    if _overtaken(context, ports):
        return Exit.OK
    # By the timer, what was told before is not told again: a node without Dragonfly would fill the journal
    # with it.
    tell = "INVOCATION_ID" not in context.environment or is_news(ports.files, proof)
    proofs.publish(ports.files, proof)
    inspection.note_origins(config, ports)
    if tell:
        context.console.line(proof_summary(proof))
    context.console.emit("Proof", proofs.body(proof))
    return Exit.OK


def _overtaken(context: Context, ports: Ports) -> bool:
    if not busy(ports.ledger, "inspect") and generations.applied(ports.files) is not None:
        return False
    context.console.line("a change or a drill began meanwhile: what was seen is of no use any more")
    return True


def _begin_repair(config: Config, ports: Ports, looked: drift.DriftFound) -> None:
    """Let systemd start the repair beside this inspection, which changes nothing itself."""
    if config.drift.repair is not Repair.OWN or not repair.due(ports, looked):
        return
    with contextlib.suppress(ProcessError):
        # Without systemd: nobody waits for it, and the next inspection tries again.
        ports.processes.run(["systemctl", "start", "--no-block", paths.REPAIR_UNIT], deadline_s=_START_S)


def is_news(files: Files, proof: proofs.Proof) -> bool:
    """Whether a proof says other than the published one. Figures and words in the checks do not count.

    Raises FileError.
    """
    before = json_files.parsed(files.read(paths.PROOF))
    try:
        return _gist(before) != _gist(proofs.body(proof))
    except (KeyError, TypeError):
        return True


def _gist(document: Mapping[str, Any]) -> object:
    return (
        [(check["number"], check["state"], check["code"]) for check in document["checks"]],
        list(document["drift"]),
        list(document.get("pending", ())),
        list(document.get("unseen", ())),
    )
