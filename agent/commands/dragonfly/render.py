"""`nydus-agent dragonfly render`: the files of Dragonfly's page on Nydus for this node; changes nothing."""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent import wire
from agent.commands.context import Context
from agent.commands.dragonfly import settings_of
from agent.config.forms import Form as TextForm
from agent.config.forms import endpoint_of
from agent.config.load import LoadedConfig
from agent.dragonfly import dfdaemon
from agent.dragonfly.document import YamlDocument, differences
from agent.dragonfly.own import own_of
from agent.dragonfly.quantities import bytes_of
from agent.dragonfly.render import PAGE, FileForm, render
from agent.dragonfly.site import Peers, Site, Wishes, Wrong, site_of
from agent.errors import ConfigError, Exit, Problem, UsageError

HELP = "print a file of Dragonfly's page for this node, with the reason of each difference"
NEEDS_ROOT = False


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FORM and what changes it; an option that was not given is None."""
    parser.add_argument("form", metavar="FORM", choices=[form.value for form in FileForm], help="which file")
    parser.add_argument("--page", action="store_true", help="the page's own values, field for field")
    for option in _OPTIONS:
        forms = ", ".join(form.value for form in option.forms)
        parser.add_argument(option.flag, dest=option.name, help=f"{forms}: {option.about}", **option.kind)
    about = "dfdaemon-unit: the dfdaemon.yaml that the unit starts it with; its directories count"
    parser.add_argument("--dfdaemon", metavar="FILE", help=about)


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError (NNA0101, NNA1501), UsageError (NNA1002)."""
    form = FileForm(args.form)
    given = {option.name: value for option in _OPTIONS if (value := getattr(args, option.name)) is not None}
    file = args.dfdaemon
    _check(form, given, page=args.page, file=file)
    if file is not None:
        given |= _directories(file)
    page = YamlDocument(PAGE[form]) if form in PAGE else None
    made = page if page is not None and args.page else render(form, _site(context.load_config(), given, file))
    text = made if isinstance(made, str) else made.text()
    context.console.line(text.rstrip("\n"))
    differ = differences(PAGE[form], made) if form in PAGE and isinstance(made, YamlDocument) else ()
    context.console.emit(
        "DragonflyFile",
        {"form": form, "page": args.page, "file": form.file, "text": text, "differences": differ},
    )
    return Exit.OK


def _directories(file: str) -> dict[str, object]:
    """Those that a dfdaemon.yaml names. Raises ConfigError (NNA1501)."""
    own = own_of(settings_of(file, wire.root_files("/")).peer)
    return {"storage": own.storage, "socket": own.socket, "cache": own.cache}


def _check(form: FileForm, given: Mapping[str, object], *, page: bool, file: str | None) -> None:
    """Raises UsageError where an option has no meaning for this form, or one is missing."""
    if file is not None and (form is not FileForm.UNIT or "storage" in given):
        why = (
            "says where pieces lie: leave --storage out"
            if form is FileForm.UNIT
            else f"is not for {form.value}"
        )
        raise UsageError("NNA1002", f"--dfdaemon {why}", try_="nydus-agent dragonfly render --help")
    for option in _OPTIONS:
        if option.name in given and (page or form not in option.forms):
            why = "changes nothing of the page's own values" if page else f"is not for {form.value}"
            raise UsageError("NNA1002", f"{option.flag} {why}", try_="nydus-agent dragonfly render --help")
    if page and form not in PAGE:
        what = f"the page has no {form.value}, so --page cannot print it"
        raise UsageError("NNA1002", what, try_=f"nydus-agent dragonfly render {form.value}")
    if form is FileForm.DYNCONFIG and not given:
        what = "dynconfig needs to know where a scheduler is"
        raise UsageError("NNA1002", what, try_="nydus-agent dragonfly render dynconfig --scheduler HOST:8002")
    schedulers = _schedulers(given)
    named = [one for one in schedulers if dfdaemon.is_named(one)]
    if named and len(schedulers) > 1:
        what = (
            f"--scheduler {named[0]}: beside others only addresses; dfdaemon takes one name alone for "
            f"all schedulers"
        )
        raise UsageError(
            "NNA1002", what, try_="nydus-agent dragonfly render dynconfig --scheduler ADDRESS:8002 …"
        )


def _schedulers(given: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(given.get("schedulers", ()))  # type: ignore[arg-type]  # argparse's list of texts


def _site(loaded: LoadedConfig, given: Mapping[str, object], file: str | None) -> Site:
    """Raises ConfigError (NNA1501) with every problem."""
    values = dict(given)
    values["schedulers"] = _schedulers(given)
    if "peers" in given:
        values["peers"] = Peers(str(given["peers"]))
    site = site_of(loaded.config, Wishes(**values))  # type: ignore[arg-type]  # argparse has checked them
    if isinstance(site, Site):
        return site
    problems = tuple(_problem(wrong, loaded, file) for wrong in site)
    raise ConfigError("NNA1501", "Dragonfly's files cannot be rendered from this", problems)


_IN_FILE = {
    "--storage": "storage.dir",
    "socketPath": "download.server.socketPath",
    "cacheDir": "server.cacheDir",
}


def _problem(wrong: Wrong, loaded: LoadedConfig, file: str | None) -> Problem:
    key, value, reason, action = wrong
    if file is not None and key in _IN_FILE:
        return Problem(file, _IN_FILE[key], value, reason, action)
    place = "command line" if key.startswith("--") else loaded.origins.get(key, "default")
    return Problem(place, key, value, reason, action)


def _number(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text} is no whole number from {low} to {high}")
        return int(text)

    return number


def _path(text: str) -> str:
    complaint = TextForm.PATH.complaint(text)
    if complaint:
        raise argparse.ArgumentTypeError(f"{text} {complaint[0]}; {complaint[1]}")
    return text


def _optional_path(text: str) -> str:
    return _path(text) if text else ""


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no IP address") from None
    if address.is_unspecified or address.is_multicast:
        raise argparse.ArgumentTypeError(f"{text} is not the address of one host")
    return text


def _user(text: str) -> str:
    if not _USER.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text} is no name of a user")
    return text


_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,30}")


def _manager(text: str) -> str:
    if not text.startswith(("http://", "https://")) or endpoint_of(text) is None:
        raise argparse.ArgumentTypeError(f"{text} is not the manager's http://HOST:65003")
    return text


def _host_port(text: str) -> str:
    end = endpoint_of(f"http://{text}")
    if end is None or not text.endswith(f":{end[1]}") or "/" in text:
        raise argparse.ArgumentTypeError(f"{text} is not HOST:PORT, such as 10.0.0.1:8002")
    return text


def _bandwidth(text: str) -> int:
    found = bytes_of(text)
    if found is None or found < 10**6:
        raise argparse.ArgumentTypeError(f"{text} is no size of 1MB or more, such as 1250MB for 10 Gbit/s")
    return found


_NODE_PORT = _number(30000, 32767)  # Kubernetes' own range of node ports
_OF_PEERS, _OF_NODE_PORTS = (
    (FileForm.HELM_VALUES, FileForm.DFDAEMON),
    (FileForm.KIND, FileForm.PEER_SERVICE),
)
_OPTIONS = (
    _Option("peers", "--peers", (FileForm.HELM_VALUES, FileForm.PEER_SERVICE),
            {"choices": [peer.value for peer in Peers]},
            "whose proxy nodes use: their own peer's, or the seed peers' (default client)"),
    _Option("exposed", "--exposed", (FileForm.HELM_VALUES,), {"action": "store_true", "default": None},
            "the peers listen on all addresses, as peer-service needs it, and not for their node alone"),
    _Option("workers", "--workers", (FileForm.KIND,), {"type": _number(1, 100), "metavar": "N"},
            "how many workers (default 2)"),
    _Option("proxy_node_port", "--proxy-node-port", _OF_NODE_PORTS, {"type": _NODE_PORT, "metavar": "PORT"},
            "the Service's port on the nodes for the proxy (default 30950)"),
    _Option("health_node_port", "--health-node-port", _OF_NODE_PORTS, {"type": _NODE_PORT, "metavar": "PORT"},
            "the same for the health URL (default 30951)"),
    _Option("manager", "--manager", (FileForm.DFDAEMON,), {"type": _manager, "metavar": "URL"},
            "the manager; without one dynconfig.yaml names the schedulers"),
    _Option("schedulers", "--scheduler", (FileForm.DYNCONFIG,),
            {"type": _host_port, "metavar": "HOST:PORT", "action": "append"},
            "a scheduler, or several by their addresses"),
    _Option("advertise", "--advertise", (FileForm.DFDAEMON,), {"type": _address, "metavar": "ADDRESS"},
            "this node's address for other peers (default: dfdaemon finds one)"),
    _Option("storage", "--storage", (*_OF_PEERS, FileForm.UNIT), {"type": _path, "metavar": "DIRECTORY"},
            "where pieces lie on the node (default /var/lib/dragonfly/)"),
    _Option("logs", "--log-dir", (FileForm.UNIT,), {"type": _path, "metavar": "DIRECTORY"},
            "what the unit gives dfdaemon as its --log-dir (default /var/log/dragonfly)"),
    _Option("user", "--user", (FileForm.UNIT,), {"type": _user, "metavar": "USER"},
            "the unit's User=, whose its directories are to be (default: root)"),
    _Option("ca", "--ca", _OF_PEERS, {"type": _optional_path, "metavar": "FILE"},
            "CAs against which registries are verified (default Debian's store); empty: none"),
    _Option("bandwidth", "--bandwidth", _OF_PEERS, {"type": _bandwidth, "metavar": "SIZE"},
            "what the node's network carries in a second, such as 1250MB; limits follow"),
)  # fmt: skip
