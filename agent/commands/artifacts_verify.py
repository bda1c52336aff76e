"""`nydus-agent artifacts verify`: read every program of a set again, and hold it against its digest."""

from __future__ import annotations

import argparse

from agent import wire
from agent.commands import artifact_sets
from agent.commands.context import Context
from agent.config.model import Config
from agent.console import Tone, Toned
from agent.errors import Exit
from agent.ports_install import ArtifactPorts

HELP = "read every program of a set again and hold it against its digest"
NEEDS_ROOT = True
"""For everyone else a program that root alone may read would look damaged."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SET."""
    parser.add_argument(
        "set", metavar="SET", nargs="*",
        help='the first digits of its id, "current" or "previous"; default: all in the store',
    )  # fmt: skip


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Exit code 3: one of them is not as it was installed. Raises ConfigError, ArtifactError."""
    return verify(args.set, context, context.load_config().config, wire.artifact_ports(context.root))


def verify(wanted: list[str], context: Context, config: Config, ports: ArtifactPorts) -> Exit:
    """The same with these ports."""
    store, console = ports.stores(config.artifacts.directory), context.console
    chosen = tuple(artifact_sets.named(store, text) for text in wanted) or store.sets()
    found = {one.id: store.verify(one.id) for one in chosen}
    for one in chosen:
        flaws = found[one.id]
        state = Toned("damaged", Tone.BAD) if flaws else Toned("ok", Tone.GOOD)
        console.line(one.id[: artifact_sets.SHORT], "  ", state, f"  {artifact_sets.releases(one)}")
        for flaw in flaws:
            console.line(f"  {flaw}")
    if not chosen:
        console.line(f"nothing is installed below {store.directory}")
    damaged = [one for one in chosen if found[one.id]]
    for one in damaged:
        console.line(f"to mend {one.id[: artifact_sets.SHORT]}: {artifact_sets.reinstall(one)}")
    console.emit(
        "ArtifactVerify",
        {"sets": [{**artifact_sets.body(one), "ok": not found[one.id], "flaws": found[one.id]} for one in chosen]},
    )
    return Exit.NOT_AS_WANTED if damaged else Exit.OK
