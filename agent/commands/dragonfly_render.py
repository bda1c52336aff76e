"""`nydus-agent dragonfly render`: the files of Dragonfly's page on Nydus for this node; changes nothing."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Callable, Mapping

from agent.commands.context import Context
from agent.config.forms import Form as TextForm
from agent.config.forms import endpoint_of
from agent.config.load import Loaded
from agent.dragonfly import dfdaemon
from agent.dragonfly.document import Document, differences
from agent.dragonfly.quantities import bytes_of
from agent.dragonfly.render import PAGE, Form, render
from agent.dragonfly.site import Peers, Site, Wishes, Wrong, site_of
from agent.errors import ConfigError, Exit, Problem, UsageError

HELP = "print a file of Dragonfly's page for this node, with the reason of each difference"
NEEDS_ROOT = False

_FOR: Mapping[str, tuple[Form, ...]] = {
    "peers": (Form.HELM_VALUES, Form.PEER_SERVICE),
    "exposed": (Form.HELM_VALUES,),
    "workers": (Form.KIND,),
    "proxy_node_port": (Form.KIND, Form.PEER_SERVICE),
    "health_node_port": (Form.KIND, Form.PEER_SERVICE),
    "manager": (Form.DFDAEMON,),
    "schedulers": (Form.DYNCONFIG,),
    "advertise": (Form.DFDAEMON,),
    "storage": (Form.HELM_VALUES, Form.DFDAEMON),
    "ca": (Form.HELM_VALUES, Form.DFDAEMON),
    "bandwidth": (Form.HELM_VALUES, Form.DFDAEMON),
}
"""Which forms an option is for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FORM and what changes it; an option that was not given is None."""
    parser.add_argument("form", metavar="FORM", choices=[form.value for form in Form], help="which file")
    parser.add_argument("--page", action="store_true", help="the page's own values, field for field")
    for name, kind, metavar, about in _OPTIONS:
        ours = ", ".join(form.value for form in _FOR[name])
        option = f"--{'scheduler' if name == 'schedulers' else name.replace('_', '-')}"
        about = f"{ours}: {about}"
        if kind is None:
            parser.add_argument(option, dest=name, action="store_true", default=None, help=about)
        elif name == "peers":
            parser.add_argument(option, dest=name, choices=[peer.value for peer in Peers], help=about)
        else:
            action = "append" if name == "schedulers" else "store"
            parser.add_argument(option, dest=name, type=kind, metavar=metavar, action=action, help=about)


def run(args: argparse.Namespace, context: Context) -> Exit:
    """Raises ConfigError (NNA0101, NNA1501), UsageError (NNA1002)."""
    form = Form(args.form)
    given = {name: value for name in _FOR if (value := getattr(args, name)) is not None}
    _check(form, given, page=args.page)
    page = Document(PAGE[form]) if form in PAGE else None
    made = page if page is not None and args.page else render(form, _site(context.load_config(), given))
    text = made if isinstance(made, str) else made.text()
    context.console.line(text.rstrip("\n"))
    differ = differences(PAGE[form], made) if form in PAGE and isinstance(made, Document) else ()
    context.console.emit(
        "DragonflyFile", {"form": form, "page": args.page, "file": form.file, "text": text, "differences": differ}
    )
    return Exit.OK


def _check(form: Form, given: Mapping[str, object], *, page: bool) -> None:
    """Raises UsageError where an option has no meaning for this form, or one is missing."""
    for name in given:
        if page or form not in _FOR[name]:
            option = "scheduler" if name == "schedulers" else name.replace("_", "-")
            why = "changes nothing of the page's own values" if page else f"is not for {form.value}"
            raise UsageError("NNA1002", f"--{option} {why}", try_="nydus-agent dragonfly render --help")
    if page and form not in PAGE:
        what = f"the page has no {form.value}, so --page cannot print it"
        raise UsageError("NNA1002", what, try_=f"nydus-agent dragonfly render {form.value}")
    if form is Form.DYNCONFIG and not given:
        what = "dynconfig needs to know where a scheduler is"
        raise UsageError("NNA1002", what, try_="nydus-agent dragonfly render dynconfig --scheduler HOST:8002")
    schedulers = _schedulers(given)
    named = [one for one in schedulers if dfdaemon.is_named(one)]
    if named and len(schedulers) > 1:
        what = f"--scheduler {named[0]}: beside others only addresses; dfdaemon takes one name alone for all schedulers"
        raise UsageError("NNA1002", what, try_="nydus-agent dragonfly render dynconfig --scheduler ADDRESS:8002 …")


def _schedulers(given: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(given.get("schedulers", ()))  # type: ignore[arg-type]  # argparse's list of texts


def _site(loaded: Loaded, given: Mapping[str, object]) -> Site:
    """Raises ConfigError (NNA1501) with every problem."""
    values = dict(given)
    values["schedulers"] = _schedulers(given)
    if "peers" in given:
        values["peers"] = Peers(str(given["peers"]))
    site = site_of(loaded.config, Wishes(**values))  # type: ignore[arg-type]  # argparse has checked them
    if isinstance(site, Site):
        return site
    problems = tuple(_problem(wrong, loaded) for wrong in site)
    raise ConfigError("NNA1501", "Dragonfly's files cannot be rendered from this", problems)


def _problem(wrong: Wrong, loaded: Loaded) -> Problem:
    key, value, reason, action = wrong
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
_OPTIONS: tuple[tuple[str, Callable[[str], object] | None, str, str], ...] = (
    ("peers", str, "", "whose proxy nodes use: their own peer's, or the seed peers' (default client)"),
    ("exposed", None, "", "the peers listen on all addresses, as peer-service needs it, and not for their node alone"),
    ("workers", _number(1, 100), "N", "how many workers (default 2)"),
    ("proxy_node_port", _NODE_PORT, "PORT", "the Service's port on the nodes for the proxy (default 30950)"),
    ("health_node_port", _NODE_PORT, "PORT", "the same for the health URL (default 30951)"),
    ("manager", _manager, "URL", "the manager; without one dynconfig.yaml names the schedulers"),
    ("schedulers", _host_port, "HOST:PORT", "a scheduler, or several by their addresses"),
    ("advertise", _address, "ADDRESS", "this node's address for other peers (default: dfdaemon finds one)"),
    ("storage", _path, "DIRECTORY", "where pieces lie on the node (default /var/lib/dragonfly/)"),
    ("ca", _optional_path, "FILE", "CAs against which registries are verified (default Debian's store); empty: none"),
    ("bandwidth", _bandwidth, "SIZE", "what the node's network carries in a second, such as 1250MB; limits follow"),
)
"""(name, type or None for a switch, what stands for the value, meaning)."""
