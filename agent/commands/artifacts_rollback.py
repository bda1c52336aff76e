"""`nydus-agent artifacts rollback`: the set that was current before becomes current again; `apply` goes back to it."""

from __future__ import annotations

import argparse

from agent import wire
from agent.commands import artifact_sets
from agent.commands.context import Context
from agent.config.model import Config
from agent.errors import Exit
from agent.ports_install import ArtifactPorts

HELP = "make the set that was current before current again; nothing restarts"
NEEDS_ROOT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace, context: Context) -> Exit:  # noqa: ARG001 - one signature for all verbs
    """Raises ConfigError, ArtifactError (NNA1137: there is none, NNA1135: it is damaged), LockedError."""
    return roll_back(context, context.load_config().config, wire.artifact_ports(context.root))


def roll_back(context: Context, config: Config, ports: ArtifactPorts) -> Exit:
    """The same with these ports."""
    store, console = ports.stores(config.artifacts.directory), context.console
    with store.lock("artifacts rollback"):
        before = store.current()
        now = store.rollback()
    console.line(f"set {now.id[: artifact_sets.SHORT]} is current again: {artifact_sets.releases(now)}")
    console.line(f"  {artifact_sets.next_step(config)}")
    console.emit(
        "ArtifactRollback",
        {"set": artifact_sets.body(now), "before": artifact_sets.body(before) if before is not None else None},
    )
    return Exit.OK
