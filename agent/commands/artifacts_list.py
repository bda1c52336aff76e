"""`nydus-agent artifacts list`: the sets of programs in the store, which is current, and what needs them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from agent import wire
from agent.artifacts.lock import ArtifactName
from agent.artifacts.sets import InstalledSet
from agent.commands import artifact_sets
from agent.commands.context import Context
from agent.config.model import Config
from agent.console import Part, Tone, Toned
from agent.errors import Exit
from agent.ports_install import ArtifactPorts

HELP = "list the sets of programs in the store, which is current, and what needs them"
NEEDS_ROOT = False
_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace, context: Context) -> Exit:  # noqa: ARG001 - one signature for all verbs
    """What needs a set only root can see. Raises ConfigError, ArtifactError."""
    return show(context, context.load_config().config, wire.artifact_ports(context.root))


def show(context: Context, config: Config, ports: ArtifactPorts) -> Exit:
    """The same with these ports."""
    from agent.apply.in_use import sets_in_use  # what it needs is long to load, and not for the other actions

    store = ports.stores(config.artifacts.directory)
    here = store.sets()
    roles = {one.id: role for role, one in (("previous", store.previous()), ("current", store.current())) if one}
    needed = sets_in_use(ports, store.directory) if context.uid == 0 else None
    if here:
        context.console.table(
            [_row(one, roles, needed) for one in here],
            header=("set", "nydus", "snapshotter", "size", "made", "", "needed because"),
        )
    else:
        context.console.line(f"nothing is installed below {store.directory}: nydus-agent artifacts install")
    context.console.emit(
        "ArtifactSets",
        {
            "directory": store.directory,
            "floor": store.floor() if context.uid == 0 else None,
            "sets": [
                {
                    **artifact_sets.body(one),
                    "role": roles.get(one.id),
                    "needed": needed.get(one.id, "") if needed is not None else None,
                }
                for one in here
            ],
        },
    )
    return Exit.OK


def _row(one: InstalledSet, roles: Mapping[str, str], needed: Mapping[str, str] | None) -> list[Part]:
    role = roles.get(one.id, "")
    versions = [one.version(name) or "-" for name in ArtifactName]
    why = "only root can tell" if needed is None else needed.get(one.id, "-")
    return [
        Toned(one.id[: artifact_sets.SHORT], Tone.STRONG), *versions, f"{one.size / _MIB:.0f} MiB",
        f"{one.made:%Y-%m-%d %H:%M}", Toned(role, Tone.GOOD) if role == "current" else role, Toned(why, Tone.FAINT),
    ]  # fmt: skip
