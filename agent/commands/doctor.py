"""`nydus-agent doctor`: run the checks now, and say what is wrong and what to do."""

from __future__ import annotations

import argparse

from agent import paths, wire
from agent.apply import leftovers
from agent.commands.context import Context
from agent.commands.running import busy, proof_summary, show_access, show_proof
from agent.config.model import Config
from agent.console import Tone, Toned
from agent.documents.status import CheckState
from agent.errors import ContainerdError, Exit, FileError
from agent.node import images as node_images
from agent.plan import images as plan_images
from agent.ports import Files, Ports
from agent.proof import drift, inspection, registry_access
from agent.proof.proofs import Proof, body, publish
from agent.proof.registry_access import RegistryPorts
from agent.records import generations

HELP = "run the checks and ask the registries in use, now: what fails, and what to do about it"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace, context: Context) -> Exit:  # noqa: ARG001 - one signature for all verbs
    """Exit code 0: all that can be proved is; 3: a check failed or something drifted; 4: something could not
    be told, or failed while a change or a drill was under way. Raises ConfigError.
    """
    config = context.load_config().config
    return examine(context, config, wire.root_ports(config), wire.registry_ports(config, context.environment))


def examine(context: Context, config: Config, ports: Ports, registries: RegistryPorts) -> Exit:
    """The proof with these ports. Raises as `change.inspect` does."""
    console = context.console
    if generations.applied(ports.files) is None:
        console.warn("nothing was applied on this node yet: nydus-agent plan")
    under_way = busy(ports.ledger, "doctor")
    if under_way:
        console.warn(f"a change or a drill is under way: {under_way}")
    looked = drift.find_drift(config, ports)
    proof = inspection.inspect(config, ports, looked=looked)
    if not under_way and not busy(ports.ledger, "doctor"):
        _publish(context, ports.files, proof)
        # Else `status` tells what the last inspection saw beside what was just proved.
        drift.tell(ports, looked)
    left = tuple(leftovers.settle(ports.files, ports.containerd, context.path("/proc")).problems())
    cautions = [
        *(f"{one.what}: {one.try_}" for one in left),
        *_unsound_images(ports),
        *registry_access.cautions(config, ports),
    ]
    for caution in cautions:
        console.warn(caution)
    show_proof(console, proof)  # before registries are asked, which may take long
    access = registry_access.ask_registries(config, ports, registries, proof.versions.get("snapshotter", ""))
    show_access(console, access)
    overheard = registry_access.overheard(ports, access)
    for caution in overheard:
        console.warn(caution)
    cautions += overheard
    under_way = under_way or busy(ports.ledger, "doctor")
    besides = {"under_way": under_way, "cautions": cautions, "registries": registry_access.body(access)}
    console.emit("Proof", {**body(proof), **besides})
    if under_way and proof.exit is not Exit.OK:
        told = f"could not tell: what is wrong may be the doing of {under_way}; try again when that is over"
        console.line(Toned(told, Tone.WARN))
        return Exit.UNKNOWN
    console.line(proof_summary(proof))
    refusing = [one for one in access if one.state is CheckState.FAILED]
    for one in refusing:
        console.line(Toned(f"{one.name}: {one.detail}", Tone.BAD))
    return Exit.NOT_AS_WANTED if refusing or left or proof.unrenewed else proof.exit


def _unsound_images(ports: Ports) -> tuple[str, ...]:
    try:
        return plan_images.unsound(node_images.read_images(ports.containerd, paths.PROXY_PLUGIN))
    except ContainerdError:
        return ()  # a check tells of that


def _publish(context: Context, files: Files, proof: Proof) -> None:
    """For `status`, which else denies for some minutes what was just proved."""
    try:
        if generations.applied(files) is not None:
            publish(files, proof)
    except FileError as error:
        context.console.warn(f"status goes on showing the proof before this one: {error}")
