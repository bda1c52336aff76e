"""`nydus-agent dragonfly`: Dragonfly's own files for this node, and what is wrong with those there."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from agent import paths, wire
from agent.commands.context import Context, absolute
from agent.commands.state.picture import read_document
from agent.config.forms import Form as TextForm
from agent.config.forms import address_of, endpoint_of
from agent.config.model import Config
from agent.console import Tone, Toned, counted
from agent.documents.status import EffectiveDocument
from agent.dragonfly.audit import FileKind, audit
from agent.dragonfly.command_line import DEFAULT_CONFIG
from agent.dragonfly.live import DfdaemonFile, report
from agent.dragonfly.render import PAGE, FileForm, is_named, render
from agent.dragonfly.settings import AuditFinding, AuditReport, Severity, bytes_of
from agent.dragonfly.site import Peers, Site, Wishes, site_of
from agent.dragonfly.yaml_files import YamlDocument, differences
from agent.errors import ConfigError, Exit, FileError, Problem, UsageError
from agent.node import dragonfly
from agent.ports import DragonflyPorts, Files

HELP = "render Dragonfly's own files for this node, and audit those that are there"
NEEDS_ROOT = False

_LONGEST = 1 << 20
_Sound = TypeVar("_Sound")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (about, arguments, _run) in _ACTIONS.items():
        description = f"{about[0].upper()}{about[1:]}."
        arguments(actions.add_parser(name, help=about, description=description, allow_abbrev=False))


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Exit code 3: an audit found something; 4: it found nothing, and something could not be told.

    Raises ConfigError (NNA0101, NNA1501), UsageError.
    """
    return _ACTIONS[args.action][2](args, context)


# A file of Dragonfly's that an operator names


def _text_of(file: str, files: Files) -> str:
    """Its text. Raises ConfigError NNA1501."""
    reason = "it is not there"
    try:
        fact = files.read(absolute(file))
        if fact is not None and len(fact.content) <= _LONGEST:
            return fact.content.decode()
        reason = reason if fact is None else "it is longer than 1 MiB"
    except FileError as error:
        reason = error.cause or error.what
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    problem = Problem(file, "", "", reason, "is it the right file?")
    raise ConfigError(
        "NNA1501", f"{file} cannot be read", (problem,), try_="nydus-agent dragonfly audit FILE"
    )


def _sound(found: _Sound | tuple[Problem, ...], file: str) -> _Sound:
    """What was made of a file. Raises ConfigError NNA1501 where problems are all that was."""
    if not isinstance(found, tuple):
        return found
    what = f"{file} is no sound configuration ({counted(len(found), 'problem')})"
    raise ConfigError("NNA1501", what, found, try_="correct them, then audit it again")


# audit


def _audit_arguments(parser: argparse.ArgumentParser) -> None:
    about = f"dfdaemon.yaml, or values of the chart (default {DEFAULT_CONFIG})"
    parser.add_argument("file", metavar="FILE", nargs="?", help=about)
    about = "what FILE is (default: seen by what is in it)"
    parser.add_argument("--as", dest="kind", choices=[kind.value for kind in FileKind], help=about)
    about = "the dfdaemon of this node: its file, listeners, unit and metrics (root)"
    parser.add_argument("--live", action="store_true", help=about)


def _audit(args: argparse.Namespace, context: Context) -> Exit:
    config = context.load_config().config
    if not args.live:
        file = args.file or context.path(DEFAULT_CONFIG)
        text = _text_of(file, wire.root_files("/"))
        found = _sound(audit(file, text, config, FileKind(args.kind) if args.kind else None), file)
        return _show(context, found)
    if args.file or args.kind:
        what = "--live looks at the running dfdaemon's own file"
        raise UsageError("NNA1002", what, try_="leave FILE and --as out")
    context.require_root("dragonfly audit --live")
    effective = read_document(EffectiveDocument, context.path(paths.EFFECTIVE))
    native = isinstance(effective, EffectiveDocument) and effective.switch == "native"
    return _show(context, audit_running(config, wire.dragonfly_ports(), native=native))


def audit_running(config: Config, ports: DragonflyPorts, *, native: bool) -> AuditReport:
    """Raises ConfigError (NNA1501) where its file is one that it could not have read."""
    facts = dragonfly.read_dragonfly(config, ports, native=native)
    return _sound(report(facts, config), facts.file)


def _show(context: Context, found: AuditReport) -> Exit:
    """Print a report; its exit code."""
    console = context.console
    console.line(Toned(_headline(found), Tone.BAD if found.findings else Tone.GOOD))
    for one in found.findings:
        _print(context, one)
    if found.not_looked:
        console.line()
        console.line(Toned("not looked at", Tone.STRONG))
        console.table([(one.item, one.why) for one in found.not_looked], indent=2)
    code = Exit.NOT_AS_WANTED if found.findings else Exit.UNKNOWN if found.untold else Exit.OK
    fields = {"subject": found.subject, "findings": found.findings, "not_looked": found.not_looked}
    console.emit("DragonflyAudit", {**fields, "exit": int(code)})
    return code


def _headline(found: AuditReport) -> str:
    if not found.findings:
        rest = f", but {counted(len(found.untold), 'thing')} could not be told" if found.untold else ""
        return f"{found.subject}: nothing found{rest}"
    trapped = sum(one.severity is Severity.TRAP for one in found.findings)
    advice = counted(len(found.findings) - trapped, "missed practice")
    return f"{found.subject}: {counted(trapped, 'trap')}, {advice}"


def _print(context: Context, one: AuditFinding) -> None:
    tone = Tone.BAD if one.severity is Severity.TRAP else Tone.WARN
    context.console.line()
    context.console.line(Toned(f"{one.severity}: {one.item}", tone), f"  {one.key}")
    rows = [("value", one.value), ("recommended", one.recommended), ("why", one.why), ("change", one.change)]
    context.console.table(rows, indent=2)


# render


@dataclass(frozen=True, slots=True)
class _Option:
    """One that changes what is rendered."""

    name: str
    """Of the wish (see dragonfly.site)."""
    flag: str
    forms: tuple[FileForm, ...]
    """Those that it is for."""
    kind: Mapping[str, Any]
    """What argparse is told of its value."""
    about: str


def _render_arguments(parser: argparse.ArgumentParser) -> None:
    """FORM and what changes it; an option that was not given is None."""
    parser.add_argument("form", metavar="FORM", choices=[form.value for form in FileForm], help="which file")
    parser.add_argument("--page", action="store_true", help="the page's own values, field for field")
    for option in _OPTIONS:
        forms = ", ".join(form.value for form in option.forms)
        parser.add_argument(option.flag, dest=option.name, help=f"{forms}: {option.about}", **option.kind)
    about = "dfdaemon-unit: the dfdaemon.yaml that the unit starts it with; its directories count"
    parser.add_argument("--dfdaemon", metavar="FILE", help=about)


def _render(args: argparse.Namespace, context: Context) -> Exit:
    form = FileForm(args.form)
    given = {option.name: value for option in _OPTIONS if (value := getattr(args, option.name)) is not None}
    file = args.dfdaemon
    _check(form, given, page=args.page, file=file)
    if file is not None:
        found = DfdaemonFile.of(file, _text_of(file, wire.root_files("/")))
        own = _sound(found.problems or found, file)
        given |= {"storage": own.storage, "socket": own.socket}
    made = YamlDocument(PAGE[form]) if args.page else render(form, _site(context.load_config().config, given))
    text = made if isinstance(made, str) else made.text()
    context.console.line(text.rstrip("\n"))
    differ = differences(PAGE[form], made) if form in PAGE and isinstance(made, YamlDocument) else ()
    fields = {"form": form, "page": args.page, "file": form.file, "text": text, "differences": differ}
    context.console.emit("DragonflyFile", fields)
    return Exit.OK


def _check(form: FileForm, given: Mapping[str, object], *, page: bool, file: str | None) -> None:
    """Raises UsageError where an option has no meaning for this form, or one is missing."""
    wrong = [option.flag for option in _OPTIONS
             if option.name in given and (page or form not in option.forms)]  # fmt: skip
    if file is not None and (form is not FileForm.UNIT or "storage" in given):
        wrong.append("--dfdaemon")
    if page and form not in PAGE:
        wrong.append("--page")
    if wrong:
        what = f"{wrong[0]} is not for {form}{' with --page' if page else ''}"
        raise UsageError("NNA1002", what, try_="nydus-agent dragonfly render --help")
    schedulers = _schedulers(given)
    if form is FileForm.DYNCONFIG and not schedulers:
        what = "dynconfig needs to know where a scheduler is"
        raise UsageError("NNA1002", what, try_="nydus-agent dragonfly render dynconfig --scheduler HOST:8002")
    if len(schedulers) > 1 and any(map(is_named, schedulers)):
        what = "--scheduler: dfdaemon takes addresses, or one name alone for all schedulers"
        try_ = "nydus-agent dragonfly render dynconfig --scheduler ADDRESS:8002 …"
        raise UsageError("NNA1002", what, try_=try_)


def _schedulers(given: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(given.get("schedulers", ()))  # type: ignore[arg-type]  # argparse's list of texts


def _site(config: Config, given: Mapping[str, object]) -> Site:
    """Raises ConfigError (NNA1501) with every problem."""
    values = {
        **given,
        "schedulers": _schedulers(given),
        "peers": Peers(str(given.get("peers", Peers.CLIENT))),
    }
    site = site_of(config, Wishes(**values))  # type: ignore[arg-type]  # argparse has checked them
    if isinstance(site, Site):
        return site
    raise ConfigError("NNA1501", "Dragonfly's files cannot be rendered from this", site)


# What argparse makes of values


def _text(what: str, is_right: Callable[[str], object]) -> Callable[[str], str]:
    def text(value: str) -> str:
        if not is_right(value):
            raise argparse.ArgumentTypeError(f"{value} is {what}")
        return value

    return text


def _is_host(text: str) -> bool:
    address = address_of(text)
    return address is not None and not address.is_unspecified and not address.is_multicast


def _is_host_port(text: str) -> bool:
    end = endpoint_of(f"http://{text}")
    return end is not None and text.endswith(f":{end[1]}") and "/" not in text


def _is_manager(text: str) -> bool:
    return text.startswith(("http://", "https://")) and endpoint_of(text) is not None


def _bandwidth(text: str) -> int:
    found = bytes_of(text)
    if found is None or found < 10**6:
        raise argparse.ArgumentTypeError(f"{text} is no size of 1MB or more, such as 1250MB for 10 Gbit/s")
    return found


_PATH = _text("no absolute path", lambda text: TextForm.PATH.complaint(text) is None)
_PATH_OR_EMPTY = _text("no absolute path", lambda text: TextForm.OPTIONAL_PATH.complaint(text) is None)
_HOST = _text("not the address of one host", _is_host)
_HOST_PORT = _text("not HOST:PORT, such as 10.0.0.1:8002", _is_host_port)
_MANAGER = _text("not the manager's http://HOST:65003", _is_manager)
_USER = _text("no name of a user", re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,30}").fullmatch)
_OF_PEERS = (FileForm.HELM_VALUES, FileForm.DFDAEMON)
_OPTIONS = (
    _Option("peers", "--peers", (FileForm.HELM_VALUES, FileForm.PEER_SERVICE),
            {"choices": [peer.value for peer in Peers]},
            "whose proxy nodes use: their own peer's, or the seed peers' (default client)"),
    _Option("exposed", "--exposed", (FileForm.HELM_VALUES,), {"action": "store_true", "default": None},
            "the peers listen on all addresses, as peer-service needs it, and not for their node alone"),
    _Option("manager", "--manager", (FileForm.DFDAEMON,), {"type": _MANAGER, "metavar": "URL"},
            "the manager; without one dynconfig.yaml names the schedulers"),
    _Option("schedulers", "--scheduler", (FileForm.DYNCONFIG,),
            {"type": _HOST_PORT, "metavar": "HOST:PORT", "action": "append"},
            "a scheduler, or several by their addresses"),
    _Option("advertise", "--advertise", (FileForm.DFDAEMON,), {"type": _HOST, "metavar": "ADDRESS"},
            "this node's address for other peers (default: dfdaemon finds one)"),
    _Option("storage", "--storage", (*_OF_PEERS, FileForm.UNIT), {"type": _PATH, "metavar": "DIRECTORY"},
            "where pieces lie on the node (default /var/lib/dragonfly/)"),
    _Option("logs", "--log-dir", (FileForm.UNIT,), {"type": _PATH, "metavar": "DIRECTORY"},
            "what the unit gives dfdaemon as its --log-dir (default /var/log/dragonfly)"),
    _Option("user", "--user", (FileForm.UNIT,), {"type": _USER, "metavar": "USER"},
            "the unit's User=, whose its directories are to be (default: root)"),
    _Option("ca", "--ca", _OF_PEERS, {"type": _PATH_OR_EMPTY, "metavar": "FILE"},
            "CAs against which registries are verified (default Debian's store); empty: none"),
    _Option("bandwidth", "--bandwidth", _OF_PEERS, {"type": _bandwidth, "metavar": "SIZE"},
            "what the node's network carries in a second, such as 1250MB; limits follow"),
)  # fmt: skip

_ACTIONS: Mapping[
    str,
    tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace, Context], Exit]],
] = {
    "render": ("print a file of Dragonfly's page for this node, with the reason of each difference",
               _render_arguments, _render),
    "audit": ("look for traps and missed practices in dfdaemon.yaml, in Helm values, or in the dfdaemon "
              "that runs",
              _audit_arguments, _audit),
}  # fmt: skip
