"""`nydus-agent dragonfly audit`: what is wrong with a configuration of Dragonfly, or with the dfdaemon that
runs.
"""

from __future__ import annotations

import argparse

from agent import paths, wire
from agent.commands.context import Context, absolute
from agent.commands.dragonfly import settings_of, sound, text_of
from agent.commands.published import read_json
from agent.config.model import Config
from agent.console import Tone, Toned, counted
from agent.dragonfly.audit import FileKind, audit
from agent.dragonfly.command_line import DEFAULT_CONFIG
from agent.dragonfly.findings import AuditFinding, AuditReport, NotLooked, Severity
from agent.dragonfly.live import LiveSettings, report
from agent.dragonfly.own import own_of
from agent.dragonfly.unit_file import UnitFile, is_unit
from agent.errors import ConfigError, Exit, UsageError
from agent.node import dragonfly
from agent.ports import DragonflyPorts, Files

HELP = (
    "look for traps and missed practices in dfdaemon.yaml, in its unit, in Helm values, or in the "
    "dfdaemon that runs"
)
NEEDS_ROOT = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE, --as, --live."""
    parser.add_argument(
        "file", metavar="FILE", nargs="?",
        help=f"dfdaemon.yaml, values of the chart, or a file of dfdaemon's unit (default {DEFAULT_CONFIG})",
    )  # fmt: skip
    parser.add_argument(
        "--as",
        dest="kind",
        choices=[kind.value for kind in FileKind],
        help="what FILE is (default: seen by what is in it)",
    )
    parser.add_argument(
        "--live", action="store_true",
        help="the dfdaemon of this node: its file, listeners, unit and metrics (root)",
    )  # fmt: skip


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Exit code 3: something was found; 4: nothing was, and something could not be told.

    Raises ConfigError (NNA0101, NNA1501), UsageError.
    """
    config = context.load_config().config
    if not args.live:
        file = args.file or context.path(DEFAULT_CONFIG)
        return show(context, of_file(file, wire.root_files("/"), config, args.kind))
    if args.file or args.kind:
        raise UsageError(
            "NNA1002", "--live looks at the running dfdaemon's own file", try_="leave FILE and --as out"
        )
    context.require_root("dragonfly audit --live")
    effective = read_json(context.path(paths.EFFECTIVE))
    native = isinstance(effective, dict) and effective.get("switch") == "native"
    return show(context, of_running(config, wire.dragonfly_ports(), native=native))


def of_file(file: str, files: Files, config: Config, kind: str | None) -> AuditReport:
    """Raises ConfigError (NNA1501) with every problem."""
    text = text_of(file, files)
    if kind == FileKind.UNIT or (kind is None and is_unit(text)):
        return _of_unit(UnitFile.of(absolute(file), text), files)
    return sound(audit(file, text, config, FileKind(kind) if kind else None), file)


def _of_unit(unit: UnitFile, files: Files) -> AuditReport:
    """With the directories of the dfdaemon.yaml that it names, where that is here."""
    try:
        settings = settings_of(unit.config, files)
    except ConfigError as error:
        why = f"its usual directories count: {error.problems[0]}"
        return unit.report(own_of(LiveSettings.of("", "").peer, unit.logs), [NotLooked("directories", why)])
    return unit.report(own_of(settings.peer, unit.logs), ())


def of_running(config: Config, ports: DragonflyPorts, *, native: bool) -> AuditReport:
    """Raises ConfigError (NNA1501) where its file is one that it could not have read."""
    facts = dragonfly.read_dragonfly(config, ports, native=native)
    return sound(report(facts, config), facts.file)


def show(context: Context, found: AuditReport) -> Exit:
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
        {
            "subject": found.subject,
            "findings": found.findings,
            "not_looked": found.not_looked,
            "exit": int(code),
        },
    )
    return code


def _headline(found: AuditReport) -> str:
    if not found.findings:
        rest = f", but {counted(len(found.untold), 'thing')} could not be told" if found.untold else ""
        return f"{found.subject}: nothing found{rest}"
    trapped = sum(one.severity is Severity.TRAP for one in found.findings)
    advice = counted(len(found.findings) - trapped, "missed practice")
    return f"{found.subject}: {counted(trapped, 'trap')}, {advice}"


def _print(context: Context, one: AuditFinding) -> None:
    console = context.console
    tone = Tone.BAD if one.severity is Severity.TRAP else Tone.WARN
    console.line()
    console.line(Toned(f"{one.severity}: {one.item}", tone), f"  {one.key}")
    console.table(
        [("value", one.value), ("recommended", one.recommended), ("why", one.why), ("change", one.change)],
        indent=2,
    )


def _exit(found: AuditReport) -> Exit:
    if found.findings:
        return Exit.NOT_AS_WANTED
    return Exit.UNKNOWN if found.untold else Exit.OK
