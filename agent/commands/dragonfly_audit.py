"""`nydus-agent dragonfly audit`: what is wrong with a configuration of Dragonfly, or with the dfdaemon that runs."""

from __future__ import annotations

import argparse

from agent import paths, wire
from agent.commands.artifact_options import absolute
from agent.commands.context import Context
from agent.commands.published import read_json
from agent.config.model import Config
from agent.console import Tone, Toned, counted
from agent.dragonfly.audit import Kind, audit
from agent.dragonfly.findings import Finding, Report, Severity
from agent.dragonfly.live import DEFAULT_CONFIG, report
from agent.errors import ConfigError, Exit, FileError, Problem, UsageError
from agent.node import dragonfly
from agent.ports import Files
from agent.ports_dragonfly import DragonflyPorts

HELP = "look for traps and missed practices in dfdaemon.yaml, in Helm values, or in the dfdaemon that runs"
NEEDS_ROOT = False
_LONGEST = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE, --as, --live."""
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help=f"dfdaemon.yaml, or values of the chart (default {DEFAULT_CONFIG})"
    )
    parser.add_argument(
        "--as", dest="kind", choices=[kind.value for kind in Kind], help="what FILE is (default: seen by its keys)"
    )
    parser.add_argument(
        "--live", action="store_true",
        help="the dfdaemon of this node: its file, listeners, unit and metrics (root)",
    )  # fmt: skip


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Exit code 3: something was found; 4: nothing was, and something could not be told.

    Raises ConfigError (NNA0101, NNA1502, NNA1503), UsageError.
    """
    config = context.load_config().config
    if not args.live:
        file = args.file or context.path(DEFAULT_CONFIG)
        return show(context, of_file(file, wire.root_files("/"), config, args.kind))
    if args.file or args.kind:
        raise UsageError("NNA1002", "--live looks at the running dfdaemon's own file", try_="leave FILE and --as out")
    context.require_root("dragonfly audit --live")
    effective = read_json(context.path(paths.EFFECTIVE))
    native = isinstance(effective, dict) and effective.get("switch") == "native"
    from agent.wire_dragonfly import dragonfly_ports  # D-Bus and HTTP, for this alone

    return show(context, of_running(config, dragonfly_ports(), native=native))


def of_file(file: str, files: Files, config: Config, kind: str | None) -> Report:
    """Raises ConfigError (NNA1502, NNA1503) with every problem."""
    found = audit(file, _text(file, files), config, Kind(kind) if kind else None)
    return _sound(found, file)


def of_running(config: Config, ports: DragonflyPorts, *, native: bool) -> Report:
    """Raises ConfigError (NNA1502) where its file is one that it could not have read."""
    facts = dragonfly.look(config, ports, native=native)
    return _sound(report(facts, config), facts.file)


def _sound(found: Report | tuple[Problem, ...], file: str) -> Report:
    if isinstance(found, Report):
        return found
    what = f"{file} is no sound configuration ({counted(len(found), 'problem')})"
    raise ConfigError("NNA1502", what, found, try_="correct them, then audit it again")


def _text(file: str, files: Files) -> str:
    def unreadable(reason: str, action: str) -> ConfigError:
        problem = Problem(file, "", "", reason, action)
        return ConfigError("NNA1503", f"{file} cannot be read", (problem,), try_="nydus-agent dragonfly audit FILE")

    try:
        fact = files.read(absolute(file))
    except FileError as error:
        raise unreadable(error.cause or error.what, "look at the file and its rights") from error
    if fact is None:
        raise unreadable("it is not there", "look at the name")
    if len(fact.content) > _LONGEST:
        raise unreadable("it is longer than 1 MiB", "is it the right file?")
    try:
        return fact.content.decode()
    except UnicodeDecodeError as error:
        raise unreadable(f"is not UTF-8 (byte {error.start})", "save it as UTF-8") from None


def show(context: Context, found: Report) -> Exit:
    """Print a report; its exit code."""
    console = context.console
    console.line(Toned(_headline(found), Tone.BAD if found.findings else Tone.GOOD))
    for one in found.findings:
        _print(context, one)
    if found.not_looked:
        console.line()
        console.line(Toned("not looked at", Tone.STRONG))
        console.table([(one.item, one.why) for one in found.not_looked], indent=2)
    code = _exit(found)
    console.emit(
        "DragonflyAudit",
        {"subject": found.subject, "findings": found.findings, "not_looked": found.not_looked, "exit": int(code)},
    )
    return code


def _headline(found: Report) -> str:
    if not found.findings:
        rest = f", but {counted(len(found.untold), 'thing')} could not be told" if found.untold else ""
        return f"{found.subject}: nothing found{rest}"
    trapped = sum(one.severity is Severity.TRAP for one in found.findings)
    advice = counted(len(found.findings) - trapped, "missed practice")
    return f"{found.subject}: {counted(trapped, 'trap')}, {advice}"


def _print(context: Context, one: Finding) -> None:
    console = context.console
    tone = Tone.BAD if one.severity is Severity.TRAP else Tone.WARN
    console.line()
    console.line(Toned(f"{one.severity}: {one.item}", tone), f"  {one.key}")
    console.table(
        [("value", one.value), ("recommended", one.recommended), ("why", one.why), ("change", one.change)], indent=2
    )


def _exit(found: Report) -> Exit:
    if found.findings:
        return Exit.NOT_AS_WANTED
    return Exit.UNKNOWN if found.untold else Exit.OK
