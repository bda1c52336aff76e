"""`nydus-agent artifacts which`: which program the configuration comes to, and from where."""

from __future__ import annotations

import argparse

from agent import wire
from agent.commands import artifact_sets
from agent.commands.context import Context
from agent.config.model import Config
from agent.console import Format, Tone, Toned
from agent.errors import Exit, PlanError
from agent.node import sets
from agent.node.facts import Binary, Unknown
from agent.node.machine import architecture
from agent.node.sets import Programs
from agent.ports_install import ArtifactPorts

HELP = "print which programs the configuration comes to, with their paths and versions"
NEEDS_ROOT = False
PROGRAMS = ("nydusd", "nydus-image", "containerd-nydus-grpc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """PROGRAM."""
    parser.add_argument(
        "program", metavar="PROGRAM", nargs="?", choices=PROGRAMS, help="print the path of this one alone"
    )


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Exit code 3: one of them is not there or must not be used. Raises ConfigError, ArtifactError."""
    return show(args.program, context, context.load_config().config, wire.artifact_ports(context.root))


def show(program: str | None, context: Context, config: Config, ports: ArtifactPorts) -> Exit:
    """The same with these ports."""
    seen = sets.look(config, ports, architecture(ports))
    wanted = PROGRAMS if program is None else (program,)
    if program is None:
        context.console.table(
            [[name, *_columns(name, seen)] for name in wanted], header=("program", "version", "from", "path")
        )
    else:
        found = seen.found[program]
        if isinstance(found, Binary):
            context.console.line(found.path)
    for one in seen.unfit if context.format is Format.TEXT else ():
        context.console.error(PlanError(one.code, f"{one.artifact} cannot be used", cause=one.reason, try_=one.try_))
    context.console.emit(
        "ArtifactWhich",
        {
            "programs": [_body(name, seen) for name in wanted],
            "unfit": seen.unfit,
        },
    )
    there = all(isinstance(seen.found[name], Binary) for name in wanted)
    return Exit.OK if there and not seen.unfit else Exit.NOT_AS_WANTED


def _columns(name: str, seen: Programs) -> tuple[str | Toned, ...]:
    found = seen.found[name]
    if not isinstance(found, Binary):
        why = found.reason if isinstance(found, Unknown) else "not there"
        return "-", "-", Toned(why, Tone.BAD)
    stored = sets.set_of(found.path)
    origin = f"set {stored[: artifact_sets.SHORT]}" if stored else "PATH"
    return found.version_text or "unknown", origin, found.path


def _body(name: str, seen: Programs) -> dict[str, object]:
    found = seen.found[name]
    if not isinstance(found, Binary):
        return {"name": name, "path": None, "version": None, "set": None}
    return {
        "name": name, "path": found.path, "version": found.version_text or None, "set": sets.set_of(found.path) or None
    }  # fmt: skip
